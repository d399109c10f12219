//! A rule file cut into what stands at its top level, and which of it a rule is made of: its own text, and by name whatever that uses,
//! across files.

use std::collections::{BTreeMap, BTreeSet};

use spool_dialect::Sources;

/// Something at the top level: a function, a constant, a rule, a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Numbers of its lines, from 0: the first, and the one after the last.
    pub lines: (usize, usize),
    pub text: String,
    /// What it defines: a function, a constant, or all it loads.
    pub names: Vec<String>,
    /// Of a load: the file.
    pub loads: Option<String>,
    /// It defines a function.
    pub is_def: bool,
}

/// Where a block stands.
pub type Place<'a> = (&'a str, usize);

#[derive(Debug)]
pub struct Blocks<'a>(BTreeMap<&'a str, Vec<Block>>);

impl<'a> Blocks<'a> {
    pub fn of(sources: &'a Sources) -> Blocks<'a> {
        Blocks(sources.0.iter().map(|(file, text)| (file.as_str(), cut(text))).collect())
    }

    pub fn get(&self, (file, at): Place<'_>) -> Option<&Block> {
        self.0.get(file)?.get(at)
    }

    /// The block that the line (from 0) stands in.
    pub fn at(&self, file: &str, line: usize) -> Option<Place<'a>> {
        let (file, blocks) = self.0.get_key_value(file)?;
        let at = blocks.iter().position(|block| (block.lines.0..block.lines.1).contains(&line))?;
        Some((file, at))
    }

    /// The block, and all that it uses by name, however far.
    pub fn closure(&self, start: Place<'a>) -> BTreeSet<Place<'a>> {
        let mut all = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some((file, at)) = open.pop() {
            let Some(block) = self.get((file, at)) else { continue };
            for word in words(&block.text) {
                if let Some(used) = self.definition(file, word)
                    && all.insert(used)
                {
                    open.push(used);
                }
            }
        }
        all
    }

    fn definition(&self, file: &str, name: &str) -> Option<Place<'a>> {
        let (file, blocks) = self.0.get_key_value(file)?;
        let at = blocks.iter().position(|block| block.names.iter().any(|known| known == name))?;
        match &blocks[at].loads {
            // What was loaded under another name is looked for under its own.
            Some(other) if other != file => self.definition(other, &loaded_as(&blocks[at].text, name)),
            _ => Some((file, at)),
        }
    }
}

/// `load("a.star", here = "there")` calls `there` of the file `here`.
fn loaded_as(load: &str, name: &str) -> String {
    let renamed = load.split([',', '(']).find_map(|part| {
        let (here, there) = part.split_once('=')?;
        (here.trim() == name).then(|| there.trim().trim_matches(|c: char| !c.is_alphanumeric() && c != '_').to_owned())
    });
    renamed.unwrap_or_else(|| name.to_owned())
}

/// Names in a text, strings and comments included: too many rather than too few.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

fn cut(text: &str) -> Vec<Block> {
    let lines: Vec<&str> = text.lines().collect();
    let mut scan = Scan::default();
    let mut starts = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let begins =
            !scan.is_inside() && line.starts_with(|c: char| !c.is_whitespace() && c != '#' && !")]}".contains(c));
        let goes_on = line.starts_with("else") || line.starts_with("elif");
        if begins && !goes_on {
            starts.push(at);
        }
        scan.line(line);
    }
    let ends = starts.iter().skip(1).copied().chain([lines.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(start, end)| {
            // Comments and blank lines before the next block are the next one's.
            let is_own = |at: &usize| !lines[*at].trim().is_empty() && !lines[*at].starts_with('#');
            let end = (*start..end).rev().find(is_own).map_or(start + 1, |at| at + 1);
            block((*start, end), lines[*start..end].join("\n"))
        })
        .collect()
}

fn block(lines: (usize, usize), text: String) -> Block {
    let word = |text: &str| words(text).next().map(str::to_owned);
    let (mut names, mut loads, mut is_def) = (Vec::new(), None, false);
    if let Some(rest) = text.strip_prefix("def ") {
        names.extend(word(rest));
        is_def = true;
    } else if text.starts_with("load(") {
        let mut parts = text.split(['"', '\'']).skip(1).step_by(2);
        loads = parts.next().map(str::to_owned);
        names.extend(parts.map(str::to_owned));
        names.extend(text.split([',', '(']).filter_map(|part| part.split_once('=')).filter_map(|(here, _)| word(here)));
    } else if let Some((left, _)) = text.split_once('=')
        && left.chars().all(|c| c.is_alphanumeric() || "_ ,".contains(c))
    {
        names.extend(words(left).map(str::to_owned));
    }
    Block { lines, text, names, loads, is_def }
}

/// Whether a line begins within brackets or a long string.
#[derive(Default)]
struct Scan {
    depth: usize,
    /// The quotes that end the string.
    string: Option<&'static str>,
}

impl Scan {
    fn is_inside(&self) -> bool {
        self.depth > 0 || self.string.is_some()
    }

    fn line(&mut self, line: &str) {
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            let first = rest.chars().next().map_or(1, char::len_utf8);
            at += match self.string {
                Some(_) if rest.starts_with('\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
                Some(quotes) if rest.starts_with(quotes) => {
                    self.string = None;
                    quotes.len()
                }
                Some(_) => first,
                None if rest.starts_with('#') => return,
                None => {
                    let opens = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| rest.starts_with(quotes));
                    if let Some(quotes) = opens {
                        self.string = Some(quotes);
                        quotes.len()
                    } else {
                        match rest.as_bytes()[0] {
                            b'(' | b'[' | b'{' => self.depth += 1,
                            b')' | b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                            _ => {}
                        }
                        first
                    }
                }
            };
        }
        // A short string ends with its line.
        self.string = self.string.filter(|quotes| quotes.len() == 3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIN: &str = "load(\"lib.star\", \"cut\", size = \"SIZE\")\n\n# Many.\nrule(\n  name = \"a (b\",  # a ( here\n  action = act,\n)\n\ndef act(p):\n    '''says\nrule(\n'''\n    return cut(p, size)\n\nrule(name = \"b\")\n";
    const LIB: &str = "STEP = 4\nSIZE = [\n  1,\n]\ndef cut(p, n):\n    return STEP\ndef other():\n    return 1\n";

    #[test]
    fn a_rule_is_its_text_and_all_it_uses() {
        let sources = Sources([("main.star".into(), MAIN.into()), ("lib.star".into(), LIB.into())].into());
        let blocks = Blocks::of(&sources);
        let rule = blocks.at("main.star", 3).expect("the first rule");
        assert_eq!(blocks.get(rule).unwrap().text.lines().count(), 4);
        let used: Vec<&str> =
            blocks.closure(rule).iter().map(|place| blocks.get(*place).unwrap().text.lines().next().unwrap()).collect();
        assert_eq!(used, ["STEP = 4", "SIZE = [", "def cut(p, n):", "rule(", "def act(p):"]);
        let other = blocks.at("main.star", 14).expect("the second rule");
        assert_eq!(blocks.closure(other).len(), 1);
        assert_eq!(blocks.at("main.star", 2), None, "a comment before a rule");
    }
}
