//! Decoded sound, made into what an encoder takes: the filters asked for, rate and channels, the trim or the clips, loudness.

use spool_proto::call::Edit;
use spool_proto::failure::{Class, Failure};
use spool_proto::spec::{AudioSpec, Rational};

use super::Window;
use super::encode::libav;
use super::loudness::Treatment;
use super::splice::Splice;
use crate::av::audio::{default_layout, doubles, guess_layout, of_doubles};
use crate::av::encoder::{Abilities, abilities};
use crate::av::frame::Frame;
use crate::av::graph::{Feed, Graph, Sink, Step};
use crate::av::input::Stream;
use crate::av::{AvError, Received, names, rescale};
use crate::piece::Kind;

/// What the sound is to become.
#[derive(Clone, Copy)]
pub struct Form<'a> {
    pub asked: &'a AudioSpec,
    /// libav's name of the encoder.
    pub encoder: &'a str,
    pub window: Window,
    /// Of a film made of clips; the window then cuts nothing.
    pub edits: &'a [Edit],
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

/// Cuts what the chain gives into clips, and goes on with these as one sound.
struct Joint {
    splice: Splice,
    /// Loudness, the encoder's format and frame size.
    graph: Graph,
    /// Of what goes in.
    sink: Sink,
    closed: bool,
}

/// Builds the chain for the sound that comes, and anew where it changes. What the old chain still held is dropped, as ffmpeg drops it.
pub struct Shaper<'a> {
    form: Form<'a>,
    abilities: Abilities,
    treatment: Treatment,
    graph: Option<(Sound, Graph)>,
    /// Of a film made of clips: behind the chain.
    joint: Option<Joint>,
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
        Ok(Shaper { form: *form, abilities, treatment, graph: None, joint: None, first: None, frame_size: 0 })
    }

    pub fn push(&mut self, frame: &mut Frame) -> Result<(), Failure> {
        guess_layout(frame);
        let sound = Sound::of(frame);
        if self.graph.as_ref().is_none_or(|(of, _)| *of != sound) {
            self.open(sound)?;
        }
        self.give(Some(frame))?;
        self.splice()
    }

    /// The source was read, to its end or until [`Shaper::is_full`]: is it wanted from its start once more?
    ///
    /// # Errors
    /// As [`Shaper::end`].
    pub fn again(&mut self, stream: &Stream) -> Result<bool, Failure> {
        if self.form.edits.is_empty() {
            return Ok(false);
        }
        if !self.is_full() {
            self.end_pass(stream)?;
            self.splice()?;
            self.joint.iter_mut().for_each(|joint| joint.splice.end());
        }
        let again = self.joint.as_mut().is_some_and(|joint| joint.splice.again());
        if again {
            self.graph = None;
        }
        Ok(again)
    }

    /// Which of the film's sources is wanted.
    pub fn input(&self) -> u32 {
        self.joint.as_ref().map_or(0, |joint| joint.splice.input())
    }

    /// Nothing more of the source is wanted, for now.
    pub fn is_full(&self) -> bool {
        self.joint.as_ref().is_some_and(|joint| joint.splice.is_full())
    }

    /// No more comes. Where nothing came, the chain is built for what the stream claims to hold.
    ///
    /// # Errors
    /// `no_sound` (class input) where it claims nothing.
    pub fn end(&mut self, stream: &Stream) -> Result<(), Failure> {
        // Clips have ended with their last pass.
        if self.joint.is_some() { Ok(()) } else { self.end_pass(stream) }
    }

    fn end_pass(&mut self, stream: &Stream) -> Result<(), Failure> {
        if self.graph.is_none() {
            self.open(told(stream)?)?;
        }
        self.give(None)
    }

    fn give(&mut self, frame: Option<&Frame>) -> Result<(), Failure> {
        let Some((_, graph)) = &mut self.graph else { return Ok(()) };
        into(graph, frame)
    }

    /// Gives the joint what the chain has ready.
    fn splice(&mut self) -> Result<(), Failure> {
        let (Some((_, graph)), Some(joint)) = (&mut self.graph, &mut self.joint) else { return Ok(()) };
        let mut frame = Frame::new().map_err(libav)?;
        while graph.pull(&mut frame).map_err(libav)? == Received::One {
            let sink = graph.sink();
            let pts = frame.pts().map(|pts| rescale(pts, sink.time_base, Rational::new(1, sink.sample_rate.max(1))));
            let values = doubles(&frame).expect("the chain ends in packed doubles");
            joint.splice.feed(pts.or(joint.splice.position()).unwrap_or(0), values);
        }
        Ok(())
    }

    pub fn pull(&mut self, frame: &mut Frame) -> Result<Received, Failure> {
        match (&mut self.joint, &mut self.graph) {
            (Some(joint), _) => joint.pull(frame),
            (None, Some((_, graph))) => graph.pull(frame).map_err(libav),
            (None, None) => Ok(Received::Again),
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
        match (&mut self.joint, &mut self.graph) {
            (Some(joint), _) => joint.graph.set_frame_size(self.frame_size),
            (None, Some((_, graph))) => graph.set_frame_size(self.frame_size),
            (None, None) => {}
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
        let mut graph = if self.treatment.is_nothing() && self.form.edits.is_empty() {
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
            if !self.form.edits.is_empty() {
                let graph = Graph::new(&feed, &steps, 1)?;
                self.join(&graph.sink(), &chosen)?;
                self.graph = Some((sound, graph));
                return Ok(());
            }
            steps.extend(self.trim());
            steps.extend(self.treated(&chosen));
            Graph::new(&feed, &steps, 1)?
        };
        self.first.get_or_insert_with(|| graph.sink());
        if self.frame_size > 0 {
            graph.set_frame_size(self.frame_size);
        }
        self.graph = Some((sound, graph));
        Ok(())
    }

    /// What comes behind everything: loudness, and the format `chosen`.
    fn treated(&self, chosen: &Sink) -> Vec<Step> {
        let mut steps = self.treatment.steps(chosen.sample_rate);
        if !self.treatment.measures {
            steps.extend(self.format(Some(*chosen)));
        }
        steps
    }

    /// What goes on behind the first chain, and behind all later ones.
    fn join(&mut self, sink: &Sink, chosen: &Sink) -> Result<(), Failure> {
        if self.joint.is_some() {
            return Ok(());
        }
        let feed = Feed::Audio {
            sample_rate: sink.sample_rate,
            format: "dbl".into(),
            layout: layout_text(sink),
            time_base: Rational::new(1, sink.sample_rate.max(1)),
        };
        let mut graph = Graph::new(&feed, &self.treated(chosen), 1)?;
        self.first = Some(graph.sink());
        if self.frame_size > 0 {
            graph.set_frame_size(self.frame_size);
        }
        let splice = Splice::new(self.form.edits, sink.sample_rate, sink.channels);
        self.joint = Some(Joint { splice, graph, sink: *sink, closed: false });
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

impl Joint {
    fn pull(&mut self, frame: &mut Frame) -> Result<Received, Failure> {
        loop {
            match self.graph.pull(frame).map_err(libav)? {
                Received::Again if self.closed => return Ok(Received::Again),
                Received::Again => {}
                received => return Ok(received),
            }
            if let Some((at, values)) = self.splice.next() {
                let Sink { sample_rate, layout, channels, .. } = self.sink;
                let mut cut = of_doubles(sample_rate, layout, channels, &values).map_err(libav)?;
                cut.set_pts(Some(at));
                into(&mut self.graph, Some(&cut))?;
            } else if self.splice.is_over() {
                self.closed = true;
                into(&mut self.graph, None)?;
            } else {
                return Ok(Received::Again);
            }
        }
    }
}

fn into(graph: &mut Graph, frame: Option<&Frame>) -> Result<(), Failure> {
    match graph.push(frame) {
        // The trim filter takes nothing more.
        Ok(()) | Err(AvError::END) => Ok(()),
        Err(error) => Err(libav(error)),
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
