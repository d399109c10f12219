//! Charts over time as SVG text. Equal input gives equal text. Pure, without dependencies.
//!
//! Reading order: [`Document`] (the picture as a whole, its colours), [`Panel`] (axes, lines, bands, marks), `scale` (round steps).
//!
//! Ink, paper and grid are classes with a light and a dark reading, chosen by the viewer's `prefers-color-scheme`; colours of data
//! are legible on both.

mod panel;
mod scale;

pub use panel::{Axis, Line, Mark, Panel};

/// Distinct also for most who do not see all colours (Okabe and Ito), the darkest lightened a little for dark paper.
pub const COLOURS: [&str; 9] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7f5fc4", "#999999"];

/// The colour of the `n`th of several; the last serves all beyond.
pub fn colour(n: usize) -> &'static str {
    COLOURS[n.min(COLOURS.len() - 1)]
}

const STYLE: &str = "<style>\
    .paper{fill:#fff}.ink{fill:#222}.drawn{stroke:#222}.grid{stroke:#ddd}.frame{stroke:#888}.mark{stroke:#999}\
    @media (prefers-color-scheme:dark){\
    .paper{fill:#181a1b}.ink{fill:#ddd}.drawn{stroke:#ddd}.grid{stroke:#3a3d40}.frame{stroke:#888}.mark{stroke:#777}}\
    </style>\n";

/// An SVG document that is being written.
#[derive(Debug)]
pub struct Document {
    text: String,
}

impl Document {
    /// Sizes in pixels. The title stands at the top, where `left` is.
    pub fn new(width: f64, height: f64, left: f64, title: &str) -> Document {
        let title = escape(title);
        let text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\" class=\"ink\">\n{STYLE}\
             <rect width=\"100%\" height=\"100%\" class=\"paper\"/>\n\
             <text x=\"{left}\" y=\"26\" font-size=\"17\" font-weight=\"bold\">{title}</text>\n",
        );
        Document { text }
    }

    /// A line of text.
    pub fn text(&mut self, x: f64, y: f64, text: &str) {
        self.text.push_str(&format!("<text x=\"{x}\" y=\"{y}\">{}</text>\n", escape(text)));
    }

    /// A square of a colour and what it stands for, with the square's left edge at `x` and the text's foot at `y`.
    pub fn key(&mut self, x: f64, y: f64, colour: &str, text: &str) {
        let top = y - 10.0;
        self.text.push_str(&format!("<rect x=\"{x}\" y=\"{top}\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\n"));
        self.text(x + 18.0, y, text);
    }

    /// The document, whole.
    pub fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn push(&mut self, element: &str) {
        self.text.push_str(element);
        self.text.push('\n');
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
