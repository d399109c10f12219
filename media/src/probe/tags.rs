//! What of a film's tags and chapters is told: facts travel to the server and stay in its journal, and a file may hold any number
//! of megabytes of them.

use spool_proto::call::Chapter;
use spool_proto::failure::Warning;

/// Bytes of tags and chapter titles told of one film. Real films have a few KiB; lyrics and licences some tens.
const BYTES_MAX: usize = 1 << 20;
/// What an entry costs beside its text.
const ENTRY: usize = 32;

/// What may still be told, first come, first kept: the film's own tags, then those of its streams, then chapters.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    tags_left_out: u64,
    chapters_left_out: u64,
}

impl Default for Room {
    fn default() -> Room {
        Room { bytes: BYTES_MAX, tags_left_out: 0, chapters_left_out: 0 }
    }
}

impl Room {
    /// Those there is room for.
    pub fn tags(&mut self, mut tags: Vec<(String, String)>) -> Vec<(String, String)> {
        let all = tags.len();
        tags.retain(|(key, value)| self.takes(key.len() + value.len()));
        self.tags_left_out += number(all - tags.len());
        tags
    }

    /// Those there is room for.
    pub fn chapters(&mut self, mut chapters: Vec<Chapter>) -> Vec<Chapter> {
        let all = chapters.len();
        chapters.retain(|chapter| self.takes(chapter.title.len()));
        self.chapters_left_out += number(all - chapters.len());
        chapters
    }

    fn takes(&mut self, text: usize) -> bool {
        let left = self.bytes.checked_sub(text.saturating_add(ENTRY));
        self.bytes = left.unwrap_or(self.bytes);
        left.is_some()
    }

    /// `None`: all was told.
    pub fn warning(&self) -> Option<Warning> {
        let Room { tags_left_out: tags, chapters_left_out: chapters, .. } = *self;
        (tags + chapters > 0).then(|| Warning {
            code: "metadata_left_out".into(),
            stream: None,
            text: format!(
                "the source has more than {} KiB of tags and chapters: {tags} tags are not taken over, {chapters} chapters not listed",
                BYTES_MAX >> 10
            ),
        })
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(key: &str, bytes: usize) -> (String, String) {
        (key.into(), "x".repeat(bytes))
    }

    #[test]
    fn what_is_too_much_is_left_out_and_told_and_the_small_stays() {
        let mut room = Room::default();
        assert_eq!(room.tags(vec![tag("a", 9), tag("b", 9)]).len(), 2);
        assert!(room.warning().is_none());
        let kept = room.tags(vec![tag("huge", BYTES_MAX), tag("title", 20), tag("half", BYTES_MAX / 2)]);
        assert_eq!(kept.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["title", "half"]);
        let chapter = |_| Chapter { start_us: 0, end_us: 1, title: "x".repeat(68) };
        let kept = room.chapters((0..100_000).map(chapter).collect()).len();
        assert!((1000..BYTES_MAX / 2 / 100 + 1).contains(&kept), "{kept}");
        let told = room.warning().unwrap().text;
        assert!(told.contains("1 tags") && told.contains(&format!("{} chapters", 100_000 - kept)), "{told}");
    }
}
