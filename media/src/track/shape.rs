//! Decoded sound, made into what an encoder takes: the filters asked for, rate and channels, the trim, loudness.

use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{AudioSpec, Rational};

use super::Window;
use super::encode::libav;
use super::loudness::Treatment;
use crate::av::audio::{default_layout, guess_layout};
use crate::av::encoder::{Abilities, abilities};
use crate::av::frame::Frame;
use crate::av::graph::{Feed, Graph, Sink, Step};
use crate::av::input::Stream;
use crate::av::{AvError, Received, names};
use crate::piece::Kind;

/// What the sound is to become.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    pub asked: &'a AudioSpec,
    /// libav's name of the encoder.
    pub encoder: &'a str,
    pub window: Window,
}

/// What a graph was built for.
#[derive(PartialEq, Eq, Clone)]
struct Sound {
    sample_rate: i32,
    format: i32,
    layout: String,
}

impl Sound {
    fn of(frame: &Frame) -> Sound {
        Sound { sample_rate: frame.sample_rate(), format: frame.format(), layout: frame.channel_layout() }
    }
}

/// Builds the chain for the sound that comes, and anew where it changes. What the old chain still held is dropped, as ffmpeg drops it.
pub struct Shaper<'a> {
    form: Form<'a>,
    abilities: Abilities,
    treatment: Treatment,
    graph: Option<(Sound, Graph)>,
    /// What the first chain gave: all later ones give the same, as in ffmpeg.
    first: Option<Sink>,
    frame_size: u32,
}

impl<'a> Shaper<'a> {
    /// # Errors
    /// `no_encoder` (class host), `encoder_refused` (class spec) for a layout the encoder does not take.
    pub fn new(form: &Form<'a>, treatment: Treatment) -> Result<Shaper<'a>, Failure> {
        let abilities = abilities(form.encoder)?;
        if let Some(layout) = &form.asked.channel_layout
            && !abilities.layouts.is_empty()
        {
            let name = |mask: &u64| names::channel_layout(*mask, i32::try_from(mask.count_ones()).unwrap_or(0));
            let taken: Vec<String> = abilities.layouts.iter().map(name).collect();
            if !taken.contains(layout) {
                let message =
                    format!("{} does not take -channel_layout {layout}; it takes {}", form.encoder, taken.join(", "));
                return Err(Failure::new(Class::Spec, "encoder_refused", message));
            }
        }
        Ok(Shaper { form: *form, abilities, treatment, graph: None, first: None, frame_size: 0 })
    }

    pub fn push(&mut self, frame: &mut Frame) -> Result<(), Failure> {
        guess_layout(frame);
        let sound = Sound::of(frame);
        if self.graph.as_ref().is_none_or(|(of, _)| *of != sound) {
            self.open(sound)?;
        }
        self.give(Some(frame))
    }

    /// No more comes. Where nothing came, the chain is built for what the stream claims to hold.
    ///
    /// # Errors
    /// `no_sound` (class input) where it claims nothing.
    pub fn end(&mut self, stream: &Stream) -> Result<(), Failure> {
        if self.graph.is_none() {
            self.open(told(stream)?)?;
        }
        self.give(None)
    }

    fn give(&mut self, frame: Option<&Frame>) -> Result<(), Failure> {
        let Some((_, graph)) = &mut self.graph else { return Ok(()) };
        match graph.push(frame) {
            // The trim filter takes nothing more.
            Ok(()) | Err(AvError::END) => Ok(()),
            Err(error) => Err(libav(error)),
        }
    }

    pub fn pull(&mut self, frame: &mut Frame) -> Result<Received, Failure> {
        match &mut self.graph {
            Some((_, graph)) => graph.pull(frame).map_err(libav),
            None => Ok(Received::Again),
        }
    }

    /// What comes out; `None` before anything went in.
    pub fn sink(&self) -> Option<Sink> {
        self.first
    }

    /// From here on frames of so many samples come out; 0: of any length.
    pub fn set_frame_size(&mut self, samples: i32) {
        if self.abilities.any_frame_size {
            return;
        }
        self.frame_size = u32::try_from(samples).unwrap_or(0);
        if let Some((_, graph)) = &mut self.graph {
            graph.set_frame_size(self.frame_size);
        }
    }

    fn open(&mut self, sound: Sound) -> Result<(), Failure> {
        let feed = Feed::Audio {
            sample_rate: sound.sample_rate,
            format: names::sample_format(sound.format).unwrap_or_default(),
            layout: sound.layout.clone(),
            time_base: Rational::new(1, sound.sample_rate.max(1)),
        };
        let plain = |first: Option<Sink>| {
            let mut steps = self.filters();
            steps.extend(self.format(first));
            steps.extend(self.trim());
            steps
        };
        let mut graph = if self.treatment.is_nothing() {
            Graph::new(&feed, &plain(self.first), 1)?
        } else {
            // What libav chooses without the treatment is what the track has with it.
            let chosen = match self.first {
                Some(first) => first,
                None => Graph::new(&feed, &plain(None), 1)?.sink(),
            };
            let mut steps = self.filters();
            // In doubles until the end: nothing is rounded or clipped on the way.
            steps.push(aformat(&["dbl".into()], &[chosen.sample_rate], &[layout_text(&chosen)]));
            steps.extend(self.trim());
            steps.extend(self.treatment.steps(chosen.sample_rate));
            if !self.treatment.measures {
                steps.extend(self.format(Some(chosen)));
            }
            Graph::new(&feed, &steps, 1)?
        };
        self.first.get_or_insert_with(|| graph.sink());
        if self.frame_size > 0 {
            graph.set_frame_size(self.frame_size);
        }
        self.graph = Some((sound, graph));
        Ok(())
    }

    fn filters(&self) -> Vec<Step> {
        use spool_proto::spec::AudioFilter;
        let step = |filter: &AudioFilter| match filter {
            AudioFilter::Volume(gain) => Step::new("volume", format!("volume={gain}")),
        };
        self.form.asked.filters.iter().map(step).collect()
    }

    /// What ffmpeg puts between filters and encoder: a format the encoder takes. `first`: the one it already has.
    fn format(&self, first: Option<Sink>) -> Option<Step> {
        if let Some(first) = first {
            let format = names::sample_format(first.format).unwrap_or_default();
            return Some(aformat(&[format], &[first.sample_rate], &[layout_text(&first)]));
        }
        let asked = self.form.asked;
        let formats: Vec<String> =
            self.abilities.sample_formats.iter().filter_map(|format| names::sample_format(*format)).collect();
        let rates = match asked.sample_rate_hz {
            Some(rate) => vec![i32::try_from(rate).unwrap_or(i32::MAX)],
            None => self.abilities.sample_rates.clone(),
        };
        let mask = |mask: u64| format!("{mask:#x}");
        let layouts = match (&asked.channel_layout, asked.channels) {
            (Some(layout), _) => vec![layout.clone()],
            (None, Some(channels)) => vec![mask(self.layout_of(channels))],
            (None, None) => self.abilities.layouts.iter().map(|layout| mask(*layout)).collect(),
        };
        let anything = formats.is_empty() && rates.is_empty() && layouts.is_empty();
        (!anything).then(|| aformat(&formats, &rates, &layouts))
    }

    /// The first layout of the encoder's own list with so many channels, else the usual one.
    fn layout_of(&self, channels: u16) -> u64 {
        let channels = i32::from(channels);
        let count = |mask: &&u64| i32::try_from(mask.count_ones()) == Ok(channels);
        self.abilities.layouts.iter().find(count).copied().unwrap_or_else(|| default_layout(channels))
    }

    fn trim(&self) -> Option<Step> {
        let window = self.form.window;
        let trim: Vec<String> = [("durationi", window.duration_us), ("starti", window.start_us)]
            .into_iter()
            .filter_map(|(name, us)| us.map(|us| format!("{name}={us}us")))
            .collect();
        (!trim.is_empty()).then(|| Step::new("atrim", trim.join(":")))
    }
}

fn aformat(formats: &[String], rates: &[i32], layouts: &[String]) -> Step {
    let rates: Vec<String> = rates.iter().map(ToString::to_string).collect();
    let lists = [("sample_fmts", formats), ("sample_rates", &rates), ("channel_layouts", layouts)];
    let args: Vec<String> = lists
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}={}", list.join("|")))
        .collect();
    Step::new("aformat", args.join(":"))
}

fn layout_text(sink: &Sink) -> String {
    if sink.layout == 0 { format!("{}c", sink.channels) } else { format!("{:#x}", sink.layout) }
}

/// The format a stream claims to have.
fn told(stream: &Stream) -> Result<Sound, Failure> {
    match stream.parameters.as_ref().map(|parameters| &parameters.kind) {
        Some(Kind::Audio { sample_rate, format, layout, channels, .. })
            if *sample_rate > 0 && *format >= 0 && *channels > 0 =>
        {
            let mask = if *layout == 0 { default_layout(*channels) } else { *layout };
            Ok(Sound { sample_rate: *sample_rate, format: *format, layout: format!("{mask:#x}") })
        }
        _ => {
            let message =
                format!("{} holds no sound that can be decoded; leave it out with -map or -an", stream.label());
            Err(Failure::new(Class::Input, "no_sound", message))
        }
    }
}
