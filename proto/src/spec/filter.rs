//! The steps of `-vf`, and what cutting a film into chunks must know of them: which pictures each one looks at.
//!
//! A filter that looks at neighbours is given some of them before and after a chunk, whose own results are thrown away. One that
//! remembers the whole film so far, or drops pictures by a rhythm of its own, gives other pictures when it starts in the middle: a
//! film with one of those is not split.

mod known;

use serde::{Deserialize, Serialize};

use super::{BurnIn, Rational};
pub(super) use known::Known;

/// A length in pixels as ffmpeg's scale takes it: a number, 0 (as the input), −n (keep the aspect, a multiple of n).
/// Expressions (`iw/2`, `ih*9/16`, `min(...)`) are not taken.
pub type Pixels = i32;

/// One step of `-vf`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    Scale {
        width: Pixels,
        height: Pixels,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        algorithm: Option<String>,
    },
    /// `x`, `y` absent: centred.
    Crop {
        width: u32,
        height: u32,
        x: Option<u32>,
        y: Option<u32>,
    },
    /// `x`, `y` absent: centred. ffmpeg's own default is 0; Spool's parser fills 0 in when they are left out and takes
    /// `(ow-iw)/2` for centred.
    Pad {
        width: u32,
        height: u32,
        x: Option<u32>,
        y: Option<u32>,
        color: String,
    },
    Fps(Rational),
    /// First of these that the encoder takes.
    Format(Vec<String>),
    /// Text drawn into the picture.
    Subtitles(BurnIn),
    Named(Named),
}

/// A filter of libavfilter by its own name, with arguments by theirs. Only what the table in `known.rs` holds is ever built:
/// parser, judgement and filter chain all look there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    pub filter: String,
    /// As given, with canonical names. What is left out is libavfilter's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<(String, String)>,
}

/// What a deinterlacer gives for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// One picture.
    One,
    /// A picture of each field: twice the rate.
    Both,
    /// Of each field where the frame says that it is interlaced: only decoding tells how many.
    AsMarked,
}

/// Pictures a chain looks at besides the one it makes, in frames of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    pub behind: u64,
    pub ahead: u64,
    /// Text is drawn: where a line stands depends on those that were shown with it before.
    pub text: bool,
}

impl Named {
    fn known(&self) -> Option<&'static Known> {
        Known::of(&self.filter)
    }

    pub fn get(&self, argument: &str) -> Option<&str> {
        self.arguments.iter().find(|(name, _)| name == argument).map(|(_, value)| value.as_str())
    }

    /// libavfilter's name and arguments (`mode=send_frame:parity=tff`), every one of them held against the table.
    ///
    /// # Errors
    /// What is not in the table: a spec that went round the parser.
    pub fn step(&self) -> Result<(&'static str, String), String> {
        let known = self.known().ok_or_else(|| format!("there is no filter {:?} here", self.filter))?;
        let mut args = Vec::with_capacity(self.arguments.len());
        for (name, value) in &self.arguments {
            let argument = known.argument(name).ok_or_else(|| format!("{} has no argument {name:?}", known.name))?;
            argument.takes.read(value).map_err(|takes| format!("{name} must be {takes}, not {value:?}"))?;
            args.push(format!("{}={value}", argument.name()));
        }
        Ok((known.name, args.join(":")))
    }

    /// What a deinterlacer gives; `None` for every other filter.
    pub fn fields(&self) -> Option<Fields> {
        let default = match self.filter.as_str() {
            "yadif" => "send_frame",
            "bwdif" => "send_field",
            _ => return None,
        };
        let both = self.get("mode").unwrap_or(default).starts_with("send_field");
        Some(match (both, self.get("deint")) {
            (false, _) => Fields::One,
            (true, Some("interlaced")) => Fields::AsMarked,
            (true, _) => Fields::Both,
        })
    }

    /// `decimate`: of so many pictures one is dropped.
    pub fn cycle(&self) -> Option<u32> {
        (self.filter == "decimate").then(|| self.get("cycle").and_then(|cycle| cycle.parse().ok()).unwrap_or(5))
    }

    /// Pictures before and after; or why only the whole film gives the right ones.
    fn reach(&self) -> Result<u64, String> {
        let Some(known) = self.known() else { return Err(format!("nothing is known of the filter {}", self.filter)) };
        match known.looks {
            known::Looks::Alone => Ok(0),
            known::Looks::Around(pictures) => Ok(pictures),
            known::Looks::Window { argument, default } => {
                let size = self.get(argument).and_then(|size| size.parse().ok()).unwrap_or(default);
                Ok(size / 2)
            }
            known::Looks::Film(why) => Err(format!("{} {why}", known.name)),
        }
    }
}

/// How far a chain looks around.
///
/// # Errors
/// Why a chunk could not be filtered as the whole film would be: the film must not be split.
pub fn reach(filters: &[Filter]) -> Result<Reach, String> {
    let mut reach = Reach::default();
    let mut paced = None;
    for filter in filters {
        let named = match filter {
            Filter::Fps(_) => {
                paced = Some(filter);
                continue;
            }
            Filter::Subtitles(_) => {
                if let Some(paced) = paced {
                    return Err(format!(
                        "subtitles behind {paced} are drawn at the times that are made there; put them in front to have the film split"
                    ));
                }
                reach.text = true;
                continue;
            }
            Filter::Named(named) => named,
            _ => continue,
        };
        let pictures = named.reach()?;
        if pictures > 0
            && let Some(paced) = paced
        {
            return Err(format!(
                "{} behind {paced} looks at pictures that are repeated and dropped there; put it in front to have the film split",
                named.filter
            ));
        }
        if named.fields() == Some(Fields::AsMarked) {
            let why = "doubles the frames that say they are interlaced, and only decoding tells which do";
            return Err(format!("{} with deint=interlaced {why}", named.filter));
        }
        // Behind a filter that doubles the rate this is more than is needed.
        reach.behind += pictures;
        reach.ahead += pictures;
    }
    Ok(reach)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse::filters;

    fn of(chain: &str) -> Result<(u64, u64), String> {
        reach(&filters(chain).expect(chain)).map(|reach| (reach.behind, reach.ahead))
    }

    #[test]
    fn a_chain_looks_as_far_as_its_filters_together() {
        for (chain, pictures) in [
            ("", 0),
            ("scale=640:-2,fps=25,hflip", 0),
            ("yadif", 1),
            ("bwdif=send_frame,atadenoise=s=7", 4),
            ("yadif=1,fps=25", 1),
            ("nlmeans=s=3,unsharp", 0),
        ] {
            assert_eq!(of(chain), Ok((pictures, pictures)), "{chain}");
        }
        assert!(reach(&filters("subtitles=si=1,fps=25").expect("a chain")).is_ok_and(|reach| reach.text));
    }

    #[test]
    fn what_only_the_whole_film_gives_right_says_why() {
        for (chain, says) in [
            ("hqdn3d", "hqdn3d"),
            ("fieldmatch,decimate", "fieldmatch"),
            ("pullup,fps=24000/1001", "pullup"),
            ("fps=50,yadif", "in front"),
            ("fps=50,subtitles", "in front"),
            ("bwdif=deint=interlaced", "only decoding tells"),
        ] {
            let reason = of(chain).expect_err(chain);
            assert!(reason.contains(says), "{chain}: {reason}");
        }
    }
}
