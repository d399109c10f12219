//! `-vf`: a plain chain of known filters, read into known fields. Nothing of the text reaches libav but values that were held
//! against what their argument takes.

use std::fmt;

use super::super::BurnIn;
use super::super::filter::{Filter, Known, Named, Pixels};
use super::{ParseError, digits, frame_rate, quoted, size};

/// What a filter's arguments are called: the canonical name first, then its aliases. The order is ffmpeg's positional one.
type Names = &'static [&'static [&'static str]];

const SCALE: Names = &[&["w", "width"], &["h", "height"], &["flags"], &["s", "size"]];
const CROP: Names = &[&["w", "out_w"], &["h", "out_h"], &["x"], &["y"]];
const PAD: Names = &[&["w", "width"], &["h", "height"], &["x"], &["y"], &["color"]];
const FPS: Names = &[&["fps"]];
const FORMAT: Names = &[&["pix_fmts"]];

const SCALERS: [&str; 15] = [
    "fast_bilinear",
    "bilinear",
    "bicubic",
    "experimental",
    "neighbor",
    "area",
    "bicublin",
    "gauss",
    "sinc",
    "lanczos",
    "spline",
    "accurate_rnd",
    "full_chroma_int",
    "full_chroma_inp",
    "bitexact",
];

/// Reads a chain: `crop=1920:800,scale=1280:-2:flags=lanczos`. An empty text is an empty chain.
///
/// # Errors
/// Names the filter or argument that is not taken, and what is.
pub fn filters(text: &str) -> Result<Vec<Filter>, ParseError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut chain = Vec::new();
    for step in quoted::split(text, ',') {
        let step = step.trim();
        let is_text = step.split_once('=').map_or(step, |(name, _)| name) == "subtitles";
        // Names of files may hold any sign, written as ffmpeg reads it; nothing else needs them.
        let sign = if is_text { quoted::graph_sign(step) } else { step.chars().find(|c| ";[]'\\".contains(*c)) };
        if let Some(sign) = sign {
            let why = format!(
                "{sign:?} belongs to filter graphs; a plain chain is taken, such as crop=1920:800,scale=1280:-2"
            );
            return Err(ParseError::new("a filter chain", text, why));
        }
        chain.push(if is_text { subtitles(step)? } else { filter(step)? });
    }
    Ok(chain)
}

/// `subtitles=film.srt`, `subtitles=si=1`, `subtitles='C\:a.srt':force_style='FontSize=24'`: quoted for the chain and again for the
/// arguments, as ffmpeg reads it.
fn subtitles(step: &str) -> Result<Filter, ParseError> {
    let bad = |why: String| ParseError::new("a filter Spool takes", step, why);
    let (_, arguments) = step.split_once('=').unwrap_or((step, ""));
    let arguments = quoted::plain(arguments).ok_or_else(|| bad("a quote in it does not end".into()))?;
    let mut burn = BurnIn::default();
    if arguments.is_empty() {
        return Ok(Filter::Subtitles(burn));
    }
    for (position, part) in quoted::split(&arguments, ':').into_iter().enumerate() {
        let named = part.split_once('=').filter(|(name, _)| is_word(name.trim()));
        let (name, value) = match named {
            Some((name, value)) => (name.trim(), value),
            None if position == 0 => ("filename", part),
            None => return Err(bad(format!("{part:?} has no name; such are filename, si and force_style"))),
        };
        let value = quoted::plain(value).ok_or_else(|| bad(format!("the quote in {name} does not end")))?;
        let place = match name {
            "filename" | "f" => &mut burn.file,
            "force_style" => &mut burn.style,
            "stream_index" | "si" => {
                let stream =
                    digits(&value).ok_or_else(|| bad(format!("{name} must be a whole number, not {value:?}")))?;
                burn.stream = Some(stream);
                continue;
            }
            "charenc" => return Err(bad("charenc is not taken: how a file is encoded is found out".into())),
            "fontsdir" => {
                return Err(
                    bad("fontsdir is not taken: fonts are the source's attached ones and the machine's".into()),
                );
            }
            _ => return Err(bad(format!("it has no argument {name:?} here; taken are filename, si, force_style"))),
        };
        if value.is_empty() || place.is_some() {
            return Err(bad(format!("{name} is {}", if value.is_empty() { "empty" } else { "given twice" })));
        }
        *place = Some(value);
    }
    Ok(Filter::Subtitles(burn))
}

/// Prints a chain as `-vf` takes it; [`filters`] reads it back.
pub fn filters_text(filters: &[Filter]) -> String {
    filters.iter().map(Filter::to_string).collect::<Vec<_>>().join(",")
}

fn filter(text: &str) -> Result<Filter, ParseError> {
    let (name, arguments) = text.split_once('=').unwrap_or((text, ""));
    match name {
        "scale" => scale(&Arguments::read(text, arguments, SCALE)?),
        "crop" => crop(&Arguments::read(text, arguments, CROP)?),
        "pad" => pad(&Arguments::read(text, arguments, PAD)?),
        "fps" => {
            let arguments = Arguments::read(text, arguments, FPS)?;
            let rate = arguments.get("fps").ok_or_else(|| arguments.bad("it needs a rate: fps=30000/1001"))?;
            frame_rate(rate).map(Filter::Fps).map_err(|e| arguments.bad(e.to_string()))
        }
        "format" => {
            let arguments = Arguments::read(text, arguments, FORMAT)?;
            let formats: Vec<String> =
                arguments.get("pix_fmts").unwrap_or_default().split('|').map(String::from).collect();
            if formats.iter().all(|format| is_word(format)) {
                Ok(Filter::Format(formats))
            } else {
                Err(arguments.bad("it needs pixel formats: format=yuv420p or format=yuv420p|yuv420p10le"))
            }
        }
        _ => match Known::of(name) {
            Some(known) => {
                let names: Vec<_> = known.arguments.iter().map(|argument| argument.names).collect();
                named(&Arguments::read(text, arguments, &names)?, known)
            }
            None => {
                let taken: Vec<&str> =
                    ["scale", "crop", "fps", "pad", "format", "subtitles"].into_iter().chain(Known::names()).collect();
                let why = format!("there is no {name:?} here; taken are {}", taken.join(", "));
                Err(ParseError::new("a filter Spool takes", text, why))
            }
        },
    }
}

/// A filter of the table of those taken under libavfilter's names.
fn named(arguments: &Arguments<'_>, known: &Known) -> Result<Filter, ParseError> {
    let value = |&(name, value): &(&'static str, &str)| {
        let takes = known.argument(name).expect("only these are read").takes;
        let value =
            takes.read(value).map_err(|takes| arguments.bad(format!("{name} must be {takes}, not {value:?}")))?;
        Ok((name.to_owned(), value))
    };
    let arguments = arguments.values.iter().map(value).collect::<Result<_, _>>()?;
    Ok(Filter::Named(Named { filter: known.name.into(), arguments }))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The arguments of one filter, sorted out by name.
struct Arguments<'a> {
    text: &'a str,
    values: Vec<(&'static str, &'a str)>,
}

impl<'a> Arguments<'a> {
    /// Positional ones first, in order; `name=value` from anywhere on.
    fn read(text: &'a str, arguments: &'a str, names: &[&'static [&'static str]]) -> Result<Arguments<'a>, ParseError> {
        let mut read = Arguments { text, values: Vec::new() };
        if arguments.is_empty() {
            return Ok(read);
        }
        let mut named = false;
        for (position, part) in arguments.split(':').enumerate() {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => {
                    let known = names.iter().find(|aliases| aliases.contains(&name)).ok_or_else(|| {
                        let taken: Vec<&str> = names.iter().map(|aliases| aliases[0]).collect();
                        read.bad(format!("it has no argument {name:?} here; taken are {}", taken.join(", ")))
                    })?;
                    named = true;
                    (known[0], value)
                }
                None if named => {
                    return Err(read.bad("a value without a name cannot follow one with a name"));
                }
                None => (names.get(position).ok_or_else(|| read.bad("too many arguments"))?[0], part),
            };
            if part.contains('=') && read.get(name).is_some() {
                return Err(read.bad(format!("{name} is given twice")));
            }
            read.values.push((name, value));
        }
        Ok(read)
    }

    fn bad(&self, why: impl Into<String>) -> ParseError {
        ParseError::new("a filter Spool takes", self.text, why)
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// A plain number of pixels that must be there.
    fn pixels(&self, name: &str) -> Result<u32, ParseError> {
        let value = self.get(name).ok_or_else(|| self.bad(format!("{name} is missing")))?;
        digits(value).ok_or_else(|| self.bad(format!("{name} must be a whole number of pixels, not {value:?}")))
    }

    /// A place: pixels, or one of the texts that mean the middle.
    fn place(&self, name: &str, middle: &[&str]) -> Result<Option<Option<u32>>, ParseError> {
        match self.get(name) {
            None => Ok(None),
            Some(value) if middle.contains(&value) => Ok(Some(None)),
            Some(value) => digits(value).map(|x| Some(Some(x))).ok_or_else(|| {
                self.bad(format!("{name} must be a whole number of pixels or {}, not {value:?}", middle[0]))
            }),
        }
    }
}

fn scale(arguments: &Arguments<'_>) -> Result<Filter, ParseError> {
    let algorithm = arguments.get("flags").map(String::from);
    if let Some(unknown) = algorithm.iter().flat_map(|flags| flags.split('+')).find(|flag| !SCALERS.contains(flag)) {
        return Err(arguments.bad(format!("flags has no {unknown:?}; taken are {}", SCALERS.join(", "))));
    }
    // `scale=hd720` and `scale=s=1280x720` name both at once.
    let whole = arguments.get("s").or_else(|| arguments.get("w").filter(|_| arguments.get("h").is_none()));
    if let Some(text) = whole {
        if arguments.get("s").is_some() && (arguments.get("w").is_some() || arguments.get("h").is_some()) {
            return Err(arguments.bad("s stands for w and h, so it is given alone"));
        }
        let size = size(text).map_err(|_| {
            arguments.bad(format!("{text:?} is not WIDTH:HEIGHT (1280:-2), WIDTHxHEIGHT or a name such as hd720"))
        })?;
        let side = |n: u32| Pixels::try_from(n).map_err(|_| arguments.bad("too large"));
        return Ok(Filter::Scale { width: side(size.width)?, height: side(size.height)?, algorithm });
    }
    let side = |name: &str, own: &[&str]| match arguments.get(name) {
        None => Ok(0),
        Some(value) if own.contains(&value) => Ok(0),
        Some(value) => {
            let number = value.strip_prefix('-').unwrap_or(value);
            digits(number).and_then(|_| value.parse::<Pixels>().ok()).ok_or_else(|| {
                arguments.bad(format!(
                    "{name} must be a number of pixels, 0 or {} (as the input) or -n (keep the aspect, a multiple of n), not {value:?}",
                    own[0]
                ))
            })
        }
    };
    if arguments.get("h").is_none() {
        return Err(arguments.bad("it needs a size: scale=1280:-2"));
    }
    Ok(Filter::Scale { width: side("w", &["iw", "in_w"])?, height: side("h", &["ih", "in_h"])?, algorithm })
}

fn crop(arguments: &Arguments<'_>) -> Result<Filter, ParseError> {
    Ok(Filter::Crop {
        width: arguments.pixels("w")?,
        height: arguments.pixels("h")?,
        x: arguments.place("x", &["(iw-ow)/2", "(in_w-out_w)/2"])?.flatten(),
        y: arguments.place("y", &["(ih-oh)/2", "(in_h-out_h)/2"])?.flatten(),
    })
}

fn pad(arguments: &Arguments<'_>) -> Result<Filter, ParseError> {
    let color = arguments.get("color").unwrap_or("black");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"#@.".contains(&b);
    if color.is_empty() || !color.bytes().all(plain) {
        return Err(arguments.bad(format!("color must be a name or 0xRRGGBB, not {color:?}")));
    }
    Ok(Filter::Pad {
        width: arguments.pixels("w")?,
        height: arguments.pixels("h")?,
        x: arguments.place("x", &["(ow-iw)/2", "(out_w-in_w)/2", "-1"])?.unwrap_or(Some(0)),
        y: arguments.place("y", &["(oh-ih)/2", "(out_h-in_h)/2", "-1"])?.unwrap_or(Some(0)),
        color: color.into(),
    })
}

impl fmt::Display for Filter {
    /// ffmpeg's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |at: &Option<u32>, middle: &str| at.map_or_else(|| middle.into(), |at| at.to_string());
        match self {
            Filter::Scale { width, height, algorithm } => {
                write!(f, "scale={width}:{height}")?;
                algorithm.iter().try_for_each(|flags| write!(f, ":flags={flags}"))
            }
            Filter::Crop { width, height, x, y } => {
                write!(f, "crop={width}:{height}:{}:{}", place(x, "(iw-ow)/2"), place(y, "(ih-oh)/2"))
            }
            Filter::Pad { width, height, x, y, color } => {
                write!(f, "pad={width}:{height}:{}:{}:{color}", place(x, "(ow-iw)/2"), place(y, "(oh-ih)/2"))
            }
            Filter::Fps(rate) => write!(f, "fps={rate}"),
            Filter::Format(formats) => write!(f, "format={}", formats.join("|")),
            Filter::Subtitles(burn) => burn.fmt(f),
            Filter::Named(named) => named.fmt(f),
        }
    }
}

impl fmt::Display for Named {
    /// ffmpeg's text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.filter)?;
        for (number, (name, value)) in self.arguments.iter().enumerate() {
            write!(f, "{}{name}={value}", if number == 0 { '=' } else { ':' })?;
        }
        Ok(())
    }
}
