//! The table of filters that are taken under libavfilter's own names (FFmpeg 5.1), each with the arguments that are taken of it,
//! in their positional order.

/// Which pictures a filter looks at to make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looks {
    /// That one.
    Alone,
    /// And so many before and after it.
    Around(u64),
    /// The middle one of so many, as the argument says.
    Window { argument: &'static str, default: u64 },
    /// All of the film before it. The text says what it does, behind the filter's name.
    Film(&'static str),
}

#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    pub looks: Looks,
    pub arguments: &'static [Argument],
}

#[derive(Debug)]
pub struct Argument {
    /// libavfilter's, the longest first; the others are aliases.
    pub names: &'static [&'static str],
    pub takes: Takes,
}

impl Argument {
    pub fn name(&self) -> &'static str {
        self.names[0]
    }
}

/// What values an argument takes.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// A plain decimal, from and to.
    Number(f64, f64),
    /// A whole number, from and to.
    Whole(i64, i64),
    /// `16/9` or a plain decimal.
    Ratio,
    /// One of these; each with its other names behind `|`: `send_frame|0`.
    Word(&'static [&'static str]),
    /// Nothing: it only keeps its place among the positional ones.
    Nothing,
}

impl Takes {
    /// The value in its canonical form.
    ///
    /// # Errors
    /// What is taken instead.
    pub fn read(self, value: &str) -> Result<String, String> {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b"+-.".contains(&b));
        let number = |text: &str| text.parse::<f64>().ok().filter(|_| plain(text));
        match self {
            Takes::Number(from, to) => match number(value) {
                Some(n) if (from..=to).contains(&n) => Ok(value.into()),
                _ => Err(format!("a number from {from} to {to}")),
            },
            Takes::Whole(from, to) => match value.parse::<i64>() {
                Ok(n) if (from..=to).contains(&n) => Ok(value.into()),
                _ => Err(format!("a whole number from {from} to {to}")),
            },
            Takes::Ratio => {
                let whole = |text: &str| text.parse::<u32>().is_ok_and(|n| n > 0) && plain(text);
                let is_ratio = match value.split_once('/') {
                    Some((num, den)) => whole(num) && whole(den),
                    None => number(value).is_some_and(|n| n > 0.0 && n < 1000.0),
                };
                if is_ratio { Ok(value.into()) } else { Err("a ratio such as 16/9 or 1.85".into()) }
            }
            Takes::Word(words) => {
                let found = words.iter().find(|word| word.split('|').any(|name| name == value));
                let first = |word: &&str| word.split('|').next().unwrap_or_default().to_owned();
                found.map(first).ok_or_else(|| {
                    let taken: Vec<String> = words.iter().map(first).collect();
                    format!("one of {}", taken.join(", "))
                })
            }
            Takes::Nothing => Err("left out here".into()),
        }
    }
}

impl Known {
    pub fn of(name: &str) -> Option<&'static Known> {
        ALL.iter().find(|known| known.name == name)
    }

    /// Every name there is.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|known| known.name)
    }

    pub fn argument(&self, name: &str) -> Option<&'static Argument> {
        self.arguments.iter().find(|argument| argument.names.contains(&name))
    }
}

const fn argument(names: &'static [&'static str], takes: Takes) -> Argument {
    Argument { names, takes }
}

const fn number(names: &'static [&'static str], from: f64, to: f64) -> Argument {
    argument(names, Takes::Number(from, to))
}

const fn whole(names: &'static [&'static str], from: i64, to: i64) -> Argument {
    argument(names, Takes::Whole(from, to))
}

const fn word(names: &'static [&'static str], words: &'static [&'static str]) -> Argument {
    argument(names, Takes::Word(words))
}

const fn gap(names: &'static [&'static str]) -> Argument {
    argument(names, Takes::Nothing)
}

const YES_NO: &[&str] = &["1|true", "0|false"];
const PARITY: &[&str] = &["tff|0", "bff|1", "auto|-1"];
const DEINT: &[&str] = &["all|0", "interlaced|1"];
const ORDER: &[&str] = &["auto|-1", "bff|0", "tff|1"];

const SYSTEMS: &[&str] =
    &["bt470m", "bt470bg", "bt601-6-525", "bt601-6-625", "bt709", "smpte170m", "smpte240m", "bt2020"];
const SPACES: &[&str] = &["bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "ycgco", "gbr", "bt2020nc|bt2020ncl"];
const RANGES: &[&str] = &["tv|mpeg", "pc|jpeg"];
const PRIMARIES: &[&str] = &[
    "bt709",
    "bt470m",
    "bt470bg",
    "smpte170m",
    "smpte240m",
    "smpte428",
    "film",
    "smpte431",
    "smpte432",
    "bt2020",
    "jedec-p22|ebu3213",
];
const CURVES: &[&str] = &[
    "bt709",
    "bt470m|gamma22",
    "bt470bg|gamma28",
    "smpte170m",
    "smpte240m",
    "linear",
    "srgb|iec61966-2-1",
    "xvycc|iec61966-2-4",
    "bt2020-10",
    "bt2020-12",
];
const COLORSPACE_FORMATS: &[&str] =
    &["yuv420p", "yuv420p10", "yuv420p12", "yuv422p", "yuv422p10", "yuv422p12", "yuv444p", "yuv444p10", "yuv444p12"];

const Z_FILTERS: &[&str] = &["point", "bilinear", "bicubic", "spline16", "spline36", "lanczos"];
const Z_RANGES: &[&str] = &["input", "limited|tv", "full|pc", "unknown"];
const Z_PRIMARIES: &[&str] = &[
    "input",
    "bt709|709",
    "unspecified|unknown",
    "smpte170m|170m",
    "smpte240m|240m",
    "bt2020|2020",
    "bt470m",
    "bt470bg",
    "film",
    "smpte428",
    "smpte431",
    "smpte432",
    "jedec-p22",
    "ebu3213",
];
const Z_TRANSFERS: &[&str] = &[
    "input",
    "bt709|709",
    "unspecified|unknown",
    "smpte170m|601",
    "linear",
    "bt2020-10|2020_10",
    "bt2020-12|2020_12",
    "bt470m",
    "bt470bg",
    "log100",
    "log316",
    "smpte2084",
    "iec61966-2-4",
    "iec61966-2-1",
    "arib-std-b67",
];
const Z_MATRICES: &[&str] = &[
    "input",
    "bt709|709",
    "unspecified|unknown",
    "bt470bg|470bg",
    "smpte170m|170m",
    "bt2020nc|2020_ncl",
    "bt2020c|2020_cl",
    "gbr",
    "fcc",
    "smpte2400m",
    "ycgco",
    "chroma-derived-nc",
    "chroma-derived-c",
    "ictcp",
];
const Z_CHROMA: &[&str] = &["input", "left", "center", "topleft", "top", "bottomleft", "bottom"];

const HUGE: f64 = 1e9;
const SIDE: i64 = 16_384;

#[rustfmt::skip]
static ALL: &[Known] = &[
    // Deinterlacing.
    Known { name: "yadif", looks: Looks::Around(1), arguments: &[
        word(&["mode"], &["send_frame|0", "send_field|1", "send_frame_nospatial|2", "send_field_nospatial|3"]),
        word(&["parity"], PARITY),
        word(&["deint"], DEINT),
    ] },
    Known { name: "bwdif", looks: Looks::Around(1), arguments: &[
        word(&["mode"], &["send_frame|0", "send_field|1"]),
        word(&["parity"], PARITY),
        word(&["deint"], DEINT),
    ] },
    Known { name: "setfield", looks: Looks::Alone, arguments: &[
        word(&["mode"], &["auto|-1", "bff|0", "tff|1", "prog|2"]),
    ] },
    // Inverse telecine.
    Known { name: "fieldmatch", looks: Looks::Film("finds the rhythm of the whole film's fields"), arguments: &[
        word(&["order"], ORDER),
        word(&["mode"], &["pc|0", "pc_n|1", "pc_u|2", "pc_n_ub|3", "pcn|4", "pcn_ub|5"]),
        gap(&["ppsrc"]),
        word(&["field"], &["auto|-1", "bottom|0", "top|1"]),
        word(&["mchroma"], YES_NO),
        whole(&["y0"], 0, SIDE),
        whole(&["y1"], 0, SIDE),
        number(&["scthresh"], 0.0, 100.0),
        word(&["combmatch"], &["none|0", "sc|1", "full|2"]),
        gap(&["combdbg"]),
        whole(&["cthresh"], -1, 255),
        word(&["chroma"], YES_NO),
        whole(&["blockx"], 4, 512),
        whole(&["blocky"], 4, 512),
        whole(&["combpel"], 0, SIDE * SIDE),
    ] },
    Known { name: "decimate", looks: Looks::Film("drops one picture of each cycle, counted from the film's start"), arguments: &[
        whole(&["cycle"], 2, 25),
        number(&["dupthresh"], 0.0, 100.0),
        number(&["scthresh"], 0.0, 100.0),
        whole(&["blockx"], 4, 512),
        whole(&["blocky"], 4, 512),
        gap(&["ppsrc"]),
        word(&["chroma"], YES_NO),
    ] },
    Known { name: "pullup", looks: Looks::Film("finds the rhythm of the whole film's fields"), arguments: &[
        whole(&["jl"], 0, SIDE),
        whole(&["jr"], 0, SIDE),
        whole(&["jt"], 1, SIDE),
        whole(&["jb"], 1, SIDE),
        word(&["sb"], YES_NO),
        word(&["mp"], &["y|0", "u|1", "v|2"]),
    ] },
    // Noise, sharpness, bands.
    Known { name: "hqdn3d", looks: Looks::Film("averages each picture with all before it"), arguments: &[
        number(&["luma_spatial"], 0.0, HUGE),
        number(&["chroma_spatial"], 0.0, HUGE),
        number(&["luma_tmp"], 0.0, HUGE),
        number(&["chroma_tmp"], 0.0, HUGE),
    ] },
    Known { name: "atadenoise", looks: Looks::Window { argument: "s", default: 9 }, arguments: &[
        number(&["0a"], 0.0, 0.3),
        number(&["0b"], 0.0, 5.0),
        number(&["1a"], 0.0, 0.3),
        number(&["1b"], 0.0, 5.0),
        number(&["2a"], 0.0, 0.3),
        number(&["2b"], 0.0, 5.0),
        whole(&["s"], 5, 129),
        whole(&["p"], 0, 15),
        word(&["a"], &["p|0", "s|1"]),
        number(&["0s"], 0.0, 32_767.0),
        number(&["1s"], 0.0, 32_767.0),
        number(&["2s"], 0.0, 32_767.0),
    ] },
    Known { name: "nlmeans", looks: Looks::Alone, arguments: &[
        number(&["s"], 1.0, 30.0),
        whole(&["p"], 0, 99),
        whole(&["pc"], 0, 99),
        whole(&["r"], 0, 99),
        whole(&["rc"], 0, 99),
    ] },
    Known { name: "unsharp", looks: Looks::Alone, arguments: &[
        whole(&["luma_msize_x", "lx"], 3, 23),
        whole(&["luma_msize_y", "ly"], 3, 23),
        number(&["luma_amount", "la"], -2.0, 5.0),
        whole(&["chroma_msize_x", "cx"], 3, 23),
        whole(&["chroma_msize_y", "cy"], 3, 23),
        number(&["chroma_amount", "ca"], -2.0, 5.0),
    ] },
    Known { name: "deband", looks: Looks::Alone, arguments: &[
        number(&["1thr"], 0.00003, 0.5),
        number(&["2thr"], 0.00003, 0.5),
        number(&["3thr"], 0.00003, 0.5),
        number(&["4thr"], 0.00003, 0.5),
        whole(&["range", "r"], -SIDE, SIDE),
        number(&["direction", "d"], -std::f64::consts::TAU, std::f64::consts::TAU),
        word(&["blur", "b"], YES_NO),
        word(&["coupling", "c"], YES_NO),
    ] },
    // Turning, aspect.
    Known { name: "transpose", looks: Looks::Alone, arguments: &[
        word(&["dir"], &["cclock_flip|0", "clock|1", "cclock|2", "clock_flip|3"]),
    ] },
    Known { name: "hflip", looks: Looks::Alone, arguments: &[] },
    Known { name: "vflip", looks: Looks::Alone, arguments: &[] },
    Known { name: "setsar", looks: Looks::Alone, arguments: &[argument(&["sar", "ratio", "r"], Takes::Ratio)] },
    Known { name: "setdar", looks: Looks::Alone, arguments: &[argument(&["dar", "ratio", "r"], Takes::Ratio)] },
    // Colours.
    Known { name: "eq", looks: Looks::Alone, arguments: &[
        number(&["contrast"], -1000.0, 1000.0),
        number(&["brightness"], -1.0, 1.0),
        number(&["saturation"], 0.0, 3.0),
        number(&["gamma"], 0.1, 10.0),
        number(&["gamma_r"], 0.1, 10.0),
        number(&["gamma_g"], 0.1, 10.0),
        number(&["gamma_b"], 0.1, 10.0),
        number(&["gamma_weight"], 0.0, 1.0),
    ] },
    Known { name: "colorspace", looks: Looks::Alone, arguments: &[
        word(&["all"], SYSTEMS),
        word(&["space"], SPACES),
        word(&["range"], RANGES),
        word(&["primaries"], PRIMARIES),
        word(&["trc"], CURVES),
        word(&["format"], COLORSPACE_FORMATS),
        word(&["fast"], YES_NO),
        word(&["dither"], &["none|0", "fsb|1"]),
        word(&["wpadapt"], &["bradford|0", "vonkries|1", "identity|2"]),
        word(&["iall"], SYSTEMS),
        word(&["ispace"], SPACES),
        word(&["irange"], RANGES),
        word(&["iprimaries"], PRIMARIES),
        word(&["itrc"], CURVES),
    ] },
    Known { name: "zscale", looks: Looks::Alone, arguments: &[
        whole(&["width", "w"], -64, SIDE),
        whole(&["height", "h"], -64, SIDE),
        gap(&["size", "s"]),
        word(&["dither", "d"], &["none|0", "ordered|1", "error_diffusion|3"]),
        word(&["filter", "f"], Z_FILTERS),
        word(&["range", "r", "out_range"], Z_RANGES),
        word(&["primaries", "p"], Z_PRIMARIES),
        word(&["transfer", "t"], Z_TRANSFERS),
        word(&["matrix", "m"], Z_MATRICES),
        word(&["rangein", "rin", "in_range"], Z_RANGES),
        word(&["primariesin", "pin"], Z_PRIMARIES),
        word(&["transferin", "tin"], Z_TRANSFERS),
        word(&["matrixin", "min"], Z_MATRICES),
        word(&["chromal", "c"], Z_CHROMA),
        word(&["chromalin", "cin"], Z_CHROMA),
        number(&["npl"], 1.0, 10_000.0),
        word(&["agamma"], YES_NO),
    ] },
    Known { name: "tonemap", looks: Looks::Alone, arguments: &[
        word(&["tonemap"], &["none|0", "linear|1", "gamma|2", "clip|3", "reinhard|4", "hable|5", "mobius|6"]),
        number(&["param"], 0.000_001, HUGE),
        number(&["desat"], 0.0, HUGE),
        number(&["peak"], 0.0, HUGE),
    ] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice_and_no_word_could_end_an_argument() {
        for known in ALL {
            assert_eq!(ALL.iter().filter(|other| other.name == known.name).count(), 1, "{}", known.name);
            let names: Vec<&str> = known.arguments.iter().flat_map(|a| a.names.iter().copied()).collect();
            for name in &names {
                assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{} {name}", known.name);
            }
            for argument in known.arguments {
                if let Takes::Word(words) = argument.takes {
                    let clean = |word: &str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_|".contains(&b));
                    assert!(words.iter().all(|word| clean(word)), "{} {}", known.name, argument.name());
                }
            }
        }
    }

    #[test]
    fn numbers_are_plain() {
        let takes = Takes::Number(-1.0, 10.0);
        for good in ["0", "1.5", "-1", "+2", ".5"] {
            assert_eq!(takes.read(good).as_deref(), Ok(good));
        }
        for bad in ["", "nan", "inf", "1e1", "11", "1:x", "1,movie", "-2"] {
            assert!(takes.read(bad).is_err(), "{bad}");
        }
        assert_eq!(Takes::Word(&["send_frame|0"]).read("0").as_deref(), Ok("send_frame"));
        for bad in ["16:9", "0/1", "16/", "-1", "16/9/2"] {
            assert!(Takes::Ratio.read(bad).is_err(), "{bad}");
        }
    }
}
