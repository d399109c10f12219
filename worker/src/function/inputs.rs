//! Files that a call is given: a file of this machine is linked to and may be read where it lies; what is none is fetched whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use spool_proto::failure::{Class, Failure};
use spool_proto::uri::{self, Location};

use crate::stores::Stores;
use crate::transfer::{self, Input, write_failure};

/// The folder of inputs, in a call's scratch.
pub const FOLDER: &str = "in";
const NAME_MAX: usize = 100;

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name in the folder of inputs.
    pub name: String,
    /// Where it is: in that folder, or elsewhere on this machine, and then the name is a link to it.
    pub path: PathBuf,
}

/// Brings them, by the fields they stand in. `most`: bytes that may be fetched, of all of them.
///
/// # Errors
/// As [`Input::open`]; `input_too_large` (spec); `disk_full`, `scratch_unwritable` (host).
pub async fn bring(
    fields: &[String],
    inputs: &[Input],
    stores: &Stores,
    place: &Path,
    most: u64,
) -> Result<BTreeMap<String, File>, Failure> {
    if fields.len() != inputs.len() {
        let text = format!("{} fields are files, and {} inputs came", fields.len(), inputs.len());
        return Err(Failure::new(Class::Internal, "bad_call", text));
    }
    let folder = place.join(FOLDER);
    let made = folder.clone();
    let unwritable = |error: std::io::Error| write_failure(&error, place, "scratch_unwritable");
    crate::blocking(move || std::fs::create_dir(&made)).await.map_err(unwritable)?;
    let (mut files, mut room) = (BTreeMap::new(), most);
    for (at, (field, input)) in fields.iter().zip(inputs).enumerate() {
        let name = name(at, field, &input.uri);
        let target = folder.join(&name);
        let path = match stores.path(&input.uri).await? {
            Some(path) => {
                let local = Input { uri: uri::from_path(&path), ..input.clone() };
                let linked = crate::blocking(move || {
                    // That it is there and may be read is said here, by the name its owner knows.
                    local.open_file()?;
                    // What Landlock judges is the file itself, not a link to it.
                    let path = path.canonicalize().unwrap_or(path);
                    let link = std::os::unix::fs::symlink(&path, &target);
                    link.map_err(|error| write_failure(&error, &target, "scratch_unwritable"))?;
                    Ok::<PathBuf, Failure>(path)
                });
                linked.await?
            }
            None => {
                let fetched = transfer::fetch_at_most(input, stores, &target, room).await;
                room -= fetched
                    .map_err(|failure| Failure { message: format!("{field}: {}", failure.message), ..failure })?;
                target
            }
        };
        files.insert(field.clone(), File { name, path });
    }
    Ok(files)
}

/// `video.mov`, of the field and what the URI ends in; another one's name never.
fn name(at: usize, field: &str, uri: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let stem: String = field.chars().take(NAME_MAX).map(plain).collect();
    // An artifact's name has the number of its lease before the ending.
    let last = match Location::parse(uri) {
        Ok(Location::Spool { name, .. }) => name,
        _ => uri::file_name(uri).unwrap_or_default(),
    };
    let ending = Path::new(&last).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    let ending: String = ending.chars().take(16).filter(char::is_ascii_alphanumeric).collect();
    // Fields that differ may look the same in plain letters.
    let number = if field.chars().all(|c| plain(c) == c) { String::new() } else { format!("-{at}") };
    let stem = format!("{}{number}", stem.trim_matches('-'));
    if ending.is_empty() { stem } else { format!("{stem}.{ending}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_named_by_its_field_and_ending() {
        let cases = [
            ((0, "video", "file:///films/a%20film.MOV"), "video.MOV"),
            ((1, "tracks[0].file", "https://host/sound.wav?sig=a.b"), "tracks-0--file-1.wav"),
            ((2, "text", "spool://j1/text.f7.vtt"), "text.vtt"),
            ((3, "../../x", "s3://bucket/key"), "x-3"),
        ];
        for ((at, field, uri), expected) in cases {
            assert_eq!(name(at, field, uri), expected);
        }
    }
}
