//! Texts held against each other line by line, told as `diff -u` does.

use std::fmt::Write;

/// Lines shown around a change.
const CONTEXT: usize = 3;
/// Lines put in and taken out before two texts are called wholly different: bounds the search, which is quadratic in it.
const EDITS: usize = 2000;

/// A line of the one text, of the other, or of both; by its number from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    Both(usize, usize),
    Gone(usize),
    New(usize),
}

/// The shortest way from `a` to `b` (Myers, "An O(ND) difference algorithm"), unless it is a very long one.
pub fn lines(a: &[&str], b: &[&str]) -> Vec<Line> {
    let head = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let tail = a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (inner_a, inner_b) = (&a[head..a.len() - tail], &b[head..b.len() - tail]);
    let mut all: Vec<Line> = (0..head).map(|at| Line::Both(at, at)).collect();
    let moved = |line| match line {
        Line::Both(a, b) => Line::Both(a + head, b + head),
        Line::Gone(a) => Line::Gone(a + head),
        Line::New(b) => Line::New(b + head),
    };
    all.extend(inner(inner_a, inner_b).into_iter().map(moved));
    all.extend((0..tail).map(|at| Line::Both(a.len() - tail + at, b.len() - tail + at)));
    all
}

/// `furthest[k]` of each number of edits: how far in `a` the diagonal `k` (less `edits`) reaches.
fn inner(a: &[&str], b: &[&str]) -> Vec<Line> {
    let most = (a.len() + b.len()).min(EDITS);
    let mut steps: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=most {
        let mut furthest = vec![0; 2 * edits + 1];
        for diagonal in (0..=2 * edits).step_by(2) {
            let mut x = from(&steps, edits, diagonal).0;
            // The diagonal is x - y, shifted by `edits`.
            while x < a.len()
                && x + edits >= diagonal
                && x + edits - diagonal < b.len()
                && a[x] == b[x + edits - diagonal]
            {
                x += 1;
            }
            furthest[diagonal] = x;
            if x >= a.len() && x + edits >= diagonal && x + edits - diagonal >= b.len() {
                steps.push(furthest);
                return walk_back(&steps, a.len(), b.len());
            }
        }
        steps.push(furthest);
    }
    (0..a.len()).map(Line::Gone).chain((0..b.len()).map(Line::New)).collect()
}

/// Where a diagonal begins after so many edits, and whether the last one took a line out.
fn from(steps: &[Vec<usize>], edits: usize, diagonal: usize) -> (usize, bool) {
    let Some(before) = edits.checked_sub(1) else { return (0, false) };
    let at = |diagonal: Option<usize>| diagonal.and_then(|diagonal| steps[before].get(diagonal)).copied();
    // Shifted by one less, the diagonal left of this one has the number two less.
    let gone = at(diagonal.checked_sub(2)).map(|x| x + 1);
    let new = at(Some(diagonal));
    match (gone, new) {
        (Some(gone), Some(new)) if new >= gone => (new, false),
        (Some(gone), _) => (gone, true),
        (None, new) => (new.unwrap_or(0), false),
    }
}

fn walk_back(steps: &[Vec<usize>], a: usize, b: usize) -> Vec<Line> {
    let mut back = Vec::new();
    let (mut x, mut y) = (a, b);
    for edits in (0..steps.len()).rev() {
        let diagonal = x + edits - y;
        let (start, is_gone) = from(&steps[..edits], edits, diagonal);
        while x > start {
            (x, y) = (x - 1, y - 1);
            back.push(Line::Both(x, y));
        }
        if edits == 0 {
            break;
        }
        if is_gone {
            x -= 1;
            back.push(Line::Gone(x));
        } else {
            y -= 1;
            back.push(Line::New(y));
        }
    }
    back.reverse();
    back
}

/// As `diff -u` prints it, without the names of the files; empty where nothing differs. `heading` names what a line of `b` stands in.
pub fn unified(a: &str, b: &str, heading: impl Fn(usize) -> Option<String>) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    let all = lines(&a, &b);
    let changes: Vec<usize> =
        all.iter().enumerate().filter(|(_, line)| !matches!(line, Line::Both(..))).map(|(at, _)| at).collect();
    let mut text = String::new();
    let mut rest = changes.as_slice();
    while let Some(first) = rest.first() {
        let together = rest.windows(2).take_while(|pair| pair[1] - pair[0] <= 2 * CONTEXT).count() + 1;
        let (start, end) = (first.saturating_sub(CONTEXT), (rest[together - 1] + CONTEXT + 1).min(all.len()));
        rest = &rest[together..];
        hunk(&mut text, &all[start..end], &all[..start], (&a, &b), &heading);
    }
    text
}

fn hunk(
    text: &mut String,
    hunk: &[Line],
    before: &[Line],
    (a, b): (&[&str], &[&str]),
    heading: &impl Fn(usize) -> Option<String>,
) {
    let of_a = |lines: &[Line]| lines.iter().filter(|line| !matches!(line, Line::New(_))).count();
    let of_b = |lines: &[Line]| lines.iter().filter(|line| !matches!(line, Line::Gone(_))).count();
    // A side without lines is named by the line before it.
    let range = |before: usize, count: usize| format!("{},{count}", if count == 0 { before } else { before + 1 });
    let changed = hunk.iter().position(|line| !matches!(line, Line::Both(..))).unwrap_or(0);
    let name = heading(of_b(before) + of_b(&hunk[..changed])).map(|name| format!(" {name}")).unwrap_or_default();
    let (left, right) = (range(of_a(before), of_a(hunk)), range(of_b(before), of_b(hunk)));
    let _ = writeln!(text, "@@ -{left} +{right} @@{name}");
    for line in hunk {
        let _ = match *line {
            Line::Both(at, _) => writeln!(text, " {}", a[at]),
            Line::Gone(at) => writeln!(text, "-{}", a[at]),
            Line::New(at) => writeln!(text, "+{}", b[at]),
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(lines: &[u8]) -> Vec<String> {
        lines.iter().map(|line| line.to_string()).collect()
    }

    proptest! {
        #[test]
        fn the_way_leads_from_one_text_to_the_other(a in prop::collection::vec(0u8..5, 0..30), b in prop::collection::vec(0u8..5, 0..30)) {
            let (a, b) = (texts(&a), texts(&b));
            let (a, b): (Vec<&str>, Vec<&str>) = (a.iter().map(String::as_str).collect(), b.iter().map(String::as_str).collect());
            let way = lines(&a, &b);
            let left: Vec<&str> = way.iter().filter_map(|l| match l { Line::Both(x, _) | Line::Gone(x) => Some(a[*x]), Line::New(_) => None }).collect();
            let right: Vec<&str> = way.iter().filter_map(|l| match l { Line::Both(_, y) | Line::New(y) => Some(b[*y]), Line::Gone(_) => None }).collect();
            prop_assert_eq!(left, a.clone());
            prop_assert_eq!(right, b.clone());
            // As short as the longest common subsequence makes it.
            let mut table = vec![vec![0usize; b.len() + 1]; a.len() + 1];
            for x in 0..a.len() {
                for y in 0..b.len() {
                    table[x + 1][y + 1] = if a[x] == b[y] { table[x][y] + 1 } else { table[x][y + 1].max(table[x + 1][y]) };
                }
            }
            let both = way.iter().filter(|l| matches!(l, Line::Both(..))).count();
            prop_assert_eq!(both, table[a.len()][b.len()]);
        }
    }

    #[test]
    fn it_reads_as_diff_u_prints_it() {
        let a = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
        let b = "1\n2\n3\n4\nfive\n6\n7\n8\n9\n10\n11\n12\n13\n";
        let told = unified(a, b, |line| Some(format!("line {line}")));
        assert_eq!(
            told,
            "@@ -2,7 +2,7 @@ line 4\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n@@ -10,3 +10,4 @@ line 12\n 10\n 11\n 12\n+13\n"
        );
        assert_eq!(unified(a, a, |_| None), "");
        assert_eq!(unified("", "x\n", |_| None), "@@ -0,0 +1,1 @@\n+x\n");
    }
}
