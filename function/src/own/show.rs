//! Declarations as people and programs are shown them.

use std::fmt::Write;

use serde_json::{Value as Json, json};
use spool_proto::spec::VideoCodec;

use super::needs::Shape;
use super::{Expected, Function, all};

/// Sizes that needs are told for.
const SIZES: [(&str, u32, u32); 3] = [("720p", 1280, 720), ("1080p", 1920, 1080), ("2160p", 3840, 2160)];

impl Function {
    /// Everything, with what follows from the pictures' shape for some of them.
    pub fn to_json(&self) -> Json {
        json!({
            "function": self.name,
            "built_in": true,
            "description": self.does,
            "inputs": self.inputs,
            "input": self.input.to_json(),
            "output": self.output.to_json(),
            "artifacts": { "names": self.artifacts.names, "more": self.artifacts.more },
            "backend": if self.needs.encoder { "cpu/ENCODER" } else { "" },
            "resources": self.resources(),
            "shapes": self.shapes(),
            "timeout_s": self.needs.timeout.as_secs_f64(),
            "no_progress_s": self.needs.no_progress.as_secs_f64(),
            "expected": self.expected.to_string(),
            "idempotent": self.idempotent,
        })
    }

    /// By encoder where that matters, else once.
    fn shapes(&self) -> Vec<Json> {
        let Some(shape) = self.needs.shape else { return Vec::new() };
        let of_encoder = shape == Shape::Encode;
        let codecs = if of_encoder { VideoCodec::ALL } else { &VideoCodec::ALL[..1] };
        let each = codecs.iter().flat_map(|codec| SIZES.map(|size| (*codec, size)));
        each.map(|(codec, (name, width, height))| {
            let frame = self.expected.frame(codec, width, height).map(|span| span.as_secs_f64() * 1e3);
            let mut told = json!({
                "size": name,
                "memory_mib": shape.memory_mib(codec, width, height, 1),
                "frame_ms": frame,
            });
            if of_encoder {
                told["codec"] = codec.name().into();
            }
            told
        })
        .collect()
    }
}

/// The table of `docs/functions.md`.
pub fn markdown() -> String {
    let mut text = String::from(
        "| function | does | inputs | arguments | leaves | memory, MiB | takes about |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for function in all() {
        let fields = function.input.fields().iter().map(|(name, field)| match super::types::is_optional(field) {
            true => format!("{name}?"),
            false => name.to_string(),
        });
        let fields: Vec<_> = fields.collect();
        let left = match (function.artifacts.names, function.artifacts.more) {
            ([], true) => "files by name".to_owned(),
            (names, true) => format!("{}, …", names.join(", ")),
            (names, false) => names.join(", "),
        };
        let memory = match function.needs.shape {
            Some(_) => format!("{}, or by picture", function.needs.memory_mib),
            None => function.needs.memory_mib.to_string(),
        };
        let takes =
            if function.expected == Expected::Encode { "by encoder".into() } else { function.expected.to_string() };
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {left} | {memory} | {takes} |",
            function.name,
            function.does,
            function.inputs,
            fields.join(", "),
        );
    }
    let sizes = SIZES.map(|(name, ..)| name).join(" | ");
    let _ = writeln!(text, "\n| one thread, MiB and ms a frame | {sizes} |\n| --- |{}", " --- |".repeat(SIZES.len()));
    let mut row = |what: String, shape: Shape, expected: Expected, codec: VideoCodec| {
        let _ = write!(text, "| {what} |");
        for (_, width, height) in SIZES {
            let frame = expected.frame(codec, width, height).map_or(0, |span| span.0 / 1_000);
            let _ = write!(text, " {}, {frame} |", shape.memory_mib(codec, width, height, 1));
        }
        text.push('\n');
    };
    for function in all() {
        match function.needs.shape {
            // The first pass is as the second.
            Some(Shape::Encode) if function.name == "media.encode" => {
                for codec in VideoCodec::ALL {
                    row(format!("`media.encode`, `media.analyse`: {codec}"), Shape::Encode, function.expected, *codec);
                }
            }
            Some(shape @ Shape::Decode(_)) => {
                row(format!("`{}`", function.name), shape, function.expected, VideoCodec::Libx264);
            }
            _ => {}
        }
    }
    text
}
