//! A job as a file: `apiVersion`, `kind: Job`, `metadata`, `spec`, in YAML. A field that is left out is the template's, else as
//! usual; one that is not known is refused by its path and line.

mod input;

use std::path::Path;

pub use input::InputBody;
use serde::Deserialize;
use spool_proto::failure::Failure;
use spool_proto::pool::{Class, Hop, PoolName};
use spool_proto::spec::labels::Labels;
use spool_proto::spec::title::{
    AudioRendition, GOP_DEFAULT, LadderSpec, Package, Publish, Rendition, SEGMENT_DEFAULT, TextRendition, TitleSpec,
};
use spool_proto::spec::{
    AudioCodec, AudioSpec, BurnIn, Clip, Container, Cuts, EncodeSpec, Filter, ImageFormat, ImageSpec, JobSpec,
    NextInput, Poster, QualityTarget, Service, Sprites, Subtitles, Thumbnails, Trim, Verify, VideoCodec, VideoSpec,
    parse,
};
use spool_proto::time::{Span, Timestamp};

use crate::images;
use crate::quantity;
use crate::yaml::{Text, Time, read};

pub const API_VERSION: &str = "spool/v1";
pub const KIND: &str = "Job";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    spec: Body,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// For people. The source's file name by default.
    pub name: Option<String>,
    /// The same id finds the same job.
    pub request_id: Option<String>,
}

/// `spec` of a job or of a template.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Body {
    /// `hls-h264@1`, or the path of a file.
    pub template: Option<String>,
    pub pool: Option<String>,
    pub priority: Option<u8>,
    /// `+2h` or `2026-05-01T18:00:00Z`.
    pub deadline: Option<Moment>,
    pub opportunistic_until: Option<Moment>,
    pub preemptible: Option<bool>,
    pub hop: Option<Vec<HopBody>>,
    /// Kept with the job, to find it by. The template's and the job's own.
    pub labels: Option<Labels>,
    /// Called with the job as JSON when it has ended.
    pub notify: Option<String>,
    pub retry: Option<Retry>,
    pub input: Option<InputBody>,
    /// Joined to one film, in this order; in place of `input`.
    pub inputs: Option<Vec<InputBody>>,
    /// A file (`out.mp4`), or a folder for packages.
    pub output: Option<String>,
    pub overwrite: Option<bool>,
    pub trim: Option<TrimBody>,
    pub video: Option<Vec<VideoBody>>,
    pub ladder: Option<LadderBody>,
    pub audio: Option<Vec<AudioBody>>,
    /// Subtitles of packages.
    pub text: Option<Vec<TextBody>>,
    /// Poster, thumbnails, sprite sheets of packages.
    pub images: Option<ImagesBody>,
    /// `hls`, `dash`. Without packages the job makes one film.
    pub packages: Option<Vec<Package>>,
    /// `whole`, or `live`: segment by segment, while it is encoded.
    pub publish: Option<Publish>,
    pub chunking: Option<Chunking>,
    /// `packets`, `sample`, `full`.
    pub verify: Option<Verify>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// Attempts a task may use, lost machines not counted.
    pub max_attempts: u8,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HopBody {
    pub after: Time,
    pub pool: String,
    #[serde(default)]
    pub priority: Option<u8>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TrimBody {
    pub start: Option<Time>,
    pub duration: Option<Time>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Chunking {
    /// Length chunks should be near.
    pub target: Option<Time>,
    /// Of packages.
    pub segment: Option<Time>,
    /// From keyframe to keyframe within a segment.
    pub gop: Option<Time>,
    /// `auto`, `index`, `scan`: what tells where scenes change.
    pub cuts: Option<Cuts>,
}

/// As the options of `spool encode` take them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct VideoBody {
    /// Its folder in a package.
    #[serde(default)]
    pub name: Option<String>,
    pub codec: VideoCodec,
    #[serde(default)]
    pub height: Option<u32>,
    #[serde(default)]
    pub size: Option<Text>,
    #[serde(default)]
    pub crf: Option<f32>,
    /// `{ssim: 0.98}`, `{psnr: 42}`.
    #[serde(default)]
    pub target_quality: Option<QualityTarget>,
    #[serde(default)]
    pub two_pass: Option<bool>,
    #[serde(default)]
    pub bitrate: Option<Text>,
    #[serde(default)]
    pub maxrate: Option<Text>,
    #[serde(default)]
    pub bufsize: Option<Text>,
    #[serde(default)]
    pub preset: Option<Text>,
    #[serde(default)]
    pub tune: Option<String>,
    #[serde(default)]
    pub profile: Option<String>,
    #[serde(default)]
    pub gop_frames: Option<u32>,
    #[serde(default)]
    pub pixel_format: Option<String>,
    /// As `-vf` takes them.
    #[serde(default)]
    pub filters: Option<String>,
    #[serde(default)]
    pub burn_in: Option<BurnInBody>,
    #[serde(default)]
    pub frame_rate: Option<Text>,
    #[serde(default)]
    pub threads: Option<u16>,
    /// libvpx's `-deadline`.
    #[serde(default)]
    pub effort: Option<String>,
    #[serde(default)]
    pub cpu_used: Option<i8>,
}

/// Text that is drawn into the pictures, behind the filters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BurnInBody {
    /// A subtitle file (a path or a URI), or the number of the source's subtitle stream, from 0. Left out: its default one.
    #[serde(default)]
    pub text: Option<Text>,
    /// Of ASS: `FontName=DejaVu Sans,FontSize=28`.
    #[serde(default)]
    pub style: Option<String>,
}

impl BurnInBody {
    fn spec(&self) -> BurnIn {
        let text = self.text.as_ref().map(|text| text.0.clone());
        let stream = text.as_deref().and_then(|text| text.parse::<u32>().ok());
        BurnIn { file: text.filter(|_| stream.is_none()), stream, style: self.style.clone() }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LadderBody {
    pub codecs: Vec<VideoCodec>,
    #[serde(default)]
    pub max_height: Option<u32>,
    #[serde(default)]
    pub min_height: Option<u32>,
    #[serde(default)]
    pub preset: Option<Text>,
    /// Rungs by what trial encodes of the source show.
    #[serde(default)]
    pub per_title: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AudioBody {
    #[serde(default)]
    pub name: Option<String>,
    pub codec: AudioCodec,
    #[serde(default)]
    pub bitrate: Option<Text>,
    #[serde(default)]
    pub sample_rate: Option<u32>,
    #[serde(default)]
    pub channels: Option<u16>,
    /// `all`, `best`, a number from 0, or `language:eng`.
    #[serde(default)]
    pub tracks: Option<Text>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TextBody {
    #[serde(default)]
    pub name: Option<String>,
    /// `all`, `best`, a number from 0, or `language:eng`.
    #[serde(default)]
    pub tracks: Option<Text>,
    /// A subtitle file: a path or a URI.
    #[serde(default)]
    pub file: Option<String>,
    #[serde(default)]
    pub language: Option<String>,
}

/// As the options of `spool images` take them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ImagesBody {
    #[serde(default)]
    pub poster: bool,
    /// The poster's time.
    #[serde(default)]
    pub at: Option<Time>,
    #[serde(default)]
    pub thumbnails: Option<Time>,
    /// `5x5`.
    #[serde(default)]
    pub sprite: Option<String>,
    #[serde(default)]
    pub sprite_every: Option<Time>,
    #[serde(default)]
    pub width: Option<u32>,
    #[serde(default)]
    pub format: ImageFormat,
    #[serde(default)]
    pub exact: bool,
}

impl ImagesBody {
    fn spec(&self) -> Result<ImageSpec, String> {
        let width = self.width.unwrap_or(images::WIDTH_DEFAULT);
        let every = self.sprite_every.or(self.thumbnails).map_or(images::SPRITE_EVERY, |time| time.0);
        let grid =
            self.sprite.as_deref().map(images::grid).transpose().map_err(|e| format!("spec.images.sprite: {e}"))?;
        Ok(ImageSpec {
            poster: self.poster.then_some(Poster { at: self.at.map(|time| time.0), width: None }),
            thumbnails: self.thumbnails.map(|every| Thumbnails { every: every.0, width }),
            sprites: grid.map(|(columns, rows)| Sprites { every, columns, rows, width }),
            format: self.format,
            exact: self.exact,
            ..ImageSpec::new()
        })
    }
}

/// `+2h` or `2026-05-01T18:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment(pub Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        quantity::time(&text).map(Moment).map_err(serde::de::Error::custom)
    }
}

/// A file, read.
#[derive(Debug, Clone)]
pub struct JobFile {
    pub metadata: Metadata,
    pub body: Body,
}

/// Reads a job called `source`.
///
/// # Errors
/// What is wrong, with the source, the line and the path of the field.
pub fn parse(source: &str, text: &str) -> Result<JobFile, String> {
    let document: Document = read(source, text)?;
    if document.api_version != API_VERSION {
        let found = document.api_version;
        return Err(format!("{source}: apiVersion: {found:?} is not known here; expected {API_VERSION}"));
    }
    if document.kind != KIND {
        return Err(format!("{source}: kind: {:?} is not known here; expected {KIND}", document.kind));
    }
    Ok(JobFile { metadata: document.metadata, body: document.spec })
}

impl Body {
    /// These fields, and where they are absent those of a template.
    #[must_use]
    pub fn over(self, template: Body) -> Body {
        Body {
            template: self.template,
            pool: self.pool.or(template.pool),
            priority: self.priority.or(template.priority),
            deadline: self.deadline.or(template.deadline),
            opportunistic_until: self.opportunistic_until.or(template.opportunistic_until),
            preemptible: self.preemptible.or(template.preemptible),
            hop: self.hop.or(template.hop),
            labels: match (template.labels, self.labels) {
                (Some(mut labels), Some(own)) => {
                    labels.extend(own);
                    Some(labels)
                }
                (labels, own) => own.or(labels),
            },
            notify: self.notify.or(template.notify),
            retry: self.retry.or(template.retry),
            input: self.input.or(template.input),
            inputs: self.inputs.or(template.inputs),
            output: self.output.or(template.output),
            overwrite: self.overwrite.or(template.overwrite),
            trim: self.trim.or(template.trim),
            video: self.video.or(template.video),
            ladder: self.ladder.or(template.ladder),
            audio: self.audio.or(template.audio),
            text: self.text.or(template.text),
            images: self.images.or(template.images),
            packages: self.packages.or(template.packages),
            publish: self.publish.or(template.publish),
            chunking: self.chunking.or(template.chunking),
            verify: self.verify.or(template.verify),
        }
    }

    /// The service's own part. `source` and `output` are URIs.
    ///
    /// # Errors
    /// What is wrong, with the path of the field.
    pub fn service(&self, source: String, output: String) -> Result<Service, String> {
        match &self.packages {
            Some(packages) => self.title(source, output, packages).map(Service::Title),
            None => self.film(source, output).map(Service::VideoEncode),
        }
    }

    fn trim(&self) -> Trim {
        let trim = self.trim.clone().unwrap_or_default();
        Trim { start: trim.start.map(|time| time.0), duration: trim.duration.map(|time| time.0) }
    }

    /// The first of `inputs` becomes the input; that one source is named in one way.
    ///
    /// # Errors
    /// What is wrong, with the path of the field.
    pub fn settle_inputs(&mut self) -> Result<(), String> {
        let Some(inputs) = &self.inputs else { return Ok(()) };
        if self.input.is_some() {
            return Err("spec.input with spec.inputs: name one source under input, or all under inputs".into());
        }
        if let Some(n) = inputs.iter().position(|input| input.uri.is_none()) {
            return Err(format!("spec.inputs[{n}].uri: missing; name the source"));
        }
        let first = inputs.first().ok_or("spec.inputs: empty; name at least one source")?;
        self.input = Some(first.clone());
        Ok(())
    }

    /// Sources behind the first.
    fn joined(&self) -> Result<Vec<NextInput>, String> {
        let next = |(n, input): (usize, &InputBody)| {
            let source = uri_of(input.uri.as_deref().unwrap_or_default());
            let source = source.map_err(|e| format!("spec.inputs[{n}].uri: {e}"))?;
            Ok(NextInput { source, clips: input.clips.clone() })
        };
        self.inputs.iter().flatten().enumerate().skip(1).map(next).collect()
    }

    fn clips(&self) -> Vec<Clip> {
        self.input.as_ref().map(|input| input.clips.clone()).unwrap_or_default()
    }

    fn title(&self, source: String, output: String, packages: &[Package]) -> Result<TitleSpec, String> {
        if !self.clips().is_empty() {
            return Err("spec.input.clips: packages are made of one run of the source; encode the clips into a film, and package that".into());
        }
        if self.inputs.as_ref().is_some_and(|inputs| inputs.len() > 1) {
            return Err(
                "spec.inputs: packages are made of one source; join the inputs to a film, and package that".into()
            );
        }
        let chunking = self.chunking.clone().unwrap_or_default();
        let or = |time: Option<Time>, usual: Span| time.map_or(usual, |time| time.0);
        let segment = or(chunking.segment, SEGMENT_DEFAULT);
        let mut video = Vec::new();
        for (n, body) in self.video.iter().flatten().enumerate() {
            let path = format!("spec.video[{n}]");
            let name = body.name.clone().or_else(|| Some(format!("{}p", body.height?)));
            let name = name.ok_or_else(|| format!("{path}.name: missing; it is the rendition's folder"))?;
            video.push(Rendition { name, height: body.height, video: body.spec(&path)? });
        }
        let mut audio = Vec::new();
        for (n, body) in self.audio.iter().flatten().enumerate() {
            let path = format!("spec.audio[{n}]");
            let tracks = body.tracks.as_ref().map(|tracks| tracks.0.parse()).transpose();
            audio.push(AudioRendition {
                name: body.name.clone().unwrap_or_else(|| body.codec.name().trim_start_matches("lib").to_owned()),
                audio: body.spec(&path)?,
                tracks: tracks.map_err(|e: String| format!("{path}.tracks: {e}"))?.unwrap_or_default(),
            });
        }
        let mut text = Vec::new();
        for (n, body) in self.text.iter().flatten().enumerate() {
            let path = format!("spec.text[{n}]");
            let tracks = body.tracks.as_ref().map(|tracks| tracks.0.parse()).transpose();
            let file = body.file.as_deref().map(uri_of).transpose();
            text.push(TextRendition {
                name: body.name.clone().or(body.language.clone()).unwrap_or_else(|| "text".into()),
                tracks: tracks.map_err(|e: String| format!("{path}.tracks: {e}"))?.unwrap_or_default(),
                file: file.map_err(|e| format!("{path}.file: {e}"))?,
                language: body.language.clone(),
            });
        }
        let ladder = self.ladder.as_ref().map(|ladder| LadderSpec {
            codecs: ladder.codecs.clone(),
            max_height: ladder.max_height,
            min_height: ladder.min_height,
            preset: ladder.preset.as_ref().map(|preset| preset.0.clone()),
            per_title: ladder.per_title,
        });
        Ok(TitleSpec {
            source,
            output,
            overwrite: self.overwrite.unwrap_or(false),
            trim: self.trim(),
            video,
            ladder,
            audio,
            text,
            images: self.images.as_ref().map(ImagesBody::spec).transpose()?,
            packages: packages.to_vec(),
            publish: self.publish.unwrap_or_default(),
            segment,
            gop: or(chunking.gop, GOP_DEFAULT.min(segment)),
            chunk: chunking.target.map(|time| time.0),
            cuts: chunking.cuts.unwrap_or_default(),
            verify: self.verify.unwrap_or_default(),
        })
    }

    fn film(&self, source: String, output: String) -> Result<EncodeSpec, String> {
        if self.ladder.is_some() {
            return Err("spec.ladder: a ladder needs packages: name hls, dash or both under packages".into());
        }
        if self.images.is_some() {
            return Err("spec.images: only packages have images; spool images makes them of a film".into());
        }
        if self.publish.is_some() {
            return Err("spec.publish: only packages are published live; a film appears when it was checked".into());
        }
        if self.text.is_some() {
            return Err("spec.text: only packages have text of their own; a film keeps the source's subtitles".into());
        }
        let chunking = self.chunking.clone().unwrap_or_default();
        for (field, given) in [("segment", chunking.segment.is_some()), ("gop", chunking.gop.is_some())] {
            if given {
                return Err(format!("spec.chunking.{field}: only packages have it; name some under packages"));
            }
        }
        let container = Container::of_path(&output).map_err(|e| format!("spec.output: {e}"))?;
        let video = match self.video.as_deref() {
            None | Some([]) => None,
            Some([only]) if only.height.is_some() => {
                return Err("spec.video[0].height: of a film, set size or filters, such as scale=-2:720".into());
            }
            Some([only]) => {
                let mut video = only.spec("spec.video[0]")?;
                if let Some(burn) = video.burn_in_mut() {
                    burn.settle(&source, uri_of).map_err(|e| format!("spec.video[0]: the subtitle file: {e}"))?;
                }
                Some(video)
            }
            Some(_) => return Err("spec.video[1]: a film has one video track; several need packages".into()),
        };
        let audio = match self.audio.as_deref() {
            None | Some([]) => None,
            Some([only]) if only.tracks.is_some() => {
                return Err("spec.audio[0].tracks: only packages choose tracks; a film takes the best".into());
            }
            Some([only]) => Some(only.spec("spec.audio[0]")?),
            Some(_) => return Err("spec.audio[1]: a film's audio is encoded one way; several need packages".into()),
        };
        Ok(EncodeSpec {
            overwrite: self.overwrite.unwrap_or(false),
            video,
            audio,
            subtitles: Subtitles::Auto,
            trim: self.trim(),
            clips: self.clips(),
            joined: self.joined()?,
            chunk: chunking.target.map(|time| time.0),
            cuts: chunking.cuts.unwrap_or_default(),
            verify: self.verify.unwrap_or_default(),
            ..EncodeSpec::new(source, output, container)
        })
    }

    /// The envelope around a service.
    ///
    /// # Errors
    /// A pool's name that is none; what [`JobSpec::check`] finds.
    pub fn job(&self, name: String, service: Service) -> Result<JobSpec, Failure> {
        let mut job = JobSpec::new(name, service);
        job.priority = self.priority.unwrap_or(job.priority);
        job.deadline = self.deadline.map(|at| at.0);
        job.class = self.opportunistic_until.map_or(Class::Standard, |at| Class::Opportunistic { start_by: at.0 });
        job.preemptible = self.preemptible.unwrap_or(true);
        job.pool = self.pool.as_deref().map(PoolName::from).unwrap_or_default();
        job.max_attempts = self.retry.as_ref().map_or(job.max_attempts, |retry| retry.max_attempts);
        let hop = |hop: &HopBody| Hop { after: hop.after.0, pool: hop.pool.as_str().into(), priority: hop.priority };
        job.hop = self.hop.iter().flatten().map(hop).collect();
        job.labels = self.labels.clone().unwrap_or_default();
        job.notify.clone_from(&self.notify);
        job.check()?;
        Ok(job)
    }
}

/// A text of one field, read by `read`.
fn field<T, E: std::fmt::Display>(
    path: &str,
    name: &str,
    text: Option<&Text>,
    read: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, String> {
    text.map(|text| read(&text.0)).transpose().map_err(|e| format!("{path}.{name}: {e}"))
}

impl VideoBody {
    fn spec(&self, path: &str) -> Result<VideoSpec, String> {
        let filters = self.filters.as_deref().map(parse::filters).transpose();
        let mut filters = filters.map_err(|e| format!("{path}.filters: {e}"))?.unwrap_or_default();
        filters.extend(self.burn_in.as_ref().map(|burn| Filter::Subtitles(burn.spec())));
        Ok(VideoSpec {
            crf: self.crf,
            target_quality: self.target_quality,
            two_pass: self.two_pass.unwrap_or(false),
            bitrate_bps: field(path, "bitrate", self.bitrate.as_ref(), parse::bits)?,
            maxrate_bps: field(path, "maxrate", self.maxrate.as_ref(), parse::bits)?,
            bufsize_bits: field(path, "bufsize", self.bufsize.as_ref(), parse::bits)?,
            preset: self.preset.as_ref().map(|text| text.0.clone()),
            tune: self.tune.clone(),
            profile: self.profile.clone(),
            gop_frames: self.gop_frames,
            pix_fmt: self.pixel_format.clone(),
            filters,
            size: field(path, "size", self.size.as_ref(), parse::size)?,
            frame_rate: field(path, "frameRate", self.frame_rate.as_ref(), parse::frame_rate)?,
            threads: self.threads,
            deadline: self.effort.clone(),
            cpu_used: self.cpu_used,
            ..VideoSpec::new(self.codec)
        })
    }
}

impl AudioBody {
    fn spec(&self, path: &str) -> Result<AudioSpec, String> {
        Ok(AudioSpec {
            bitrate_bps: field(path, "bitrate", self.bitrate.as_ref(), parse::bits)?,
            sample_rate_hz: self.sample_rate,
            channels: self.channels,
            ..AudioSpec::new(self.codec)
        })
    }
}

/// A path or a URI, as a URI. Relative paths are from where the command runs.
pub fn uri_of(text: &str) -> Result<String, std::io::Error> {
    if text.contains("://") {
        return Ok(text.to_owned());
    }
    Ok(spool_proto::uri::from_path(&std::path::absolute(Path::new(text))?))
}

#[cfg(test)]
mod tests;
