//! What differs between two documents, line by line: a setting is a line, so that this says it all.

/// One line of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// In both.
    Same(&'a str),
    /// Only in the first.
    Gone(&'a str),
    /// Only in the second.
    New(&'a str),
}

/// Above this many pairs of lines the middle is told as gone and new: a comparison must not cost gigabytes.
const MOST_PAIRS: usize = 16 << 20;

/// The shortest way from `one` to `other`.
pub fn lines<'a>(one: &'a str, other: &'a str) -> Vec<Line<'a>> {
    let (a, b): (Vec<&str>, Vec<&str>) = (one.lines().collect(), other.lines().collect());
    let start = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let rest = a.len().min(b.len()) - start;
    let end = a.iter().rev().zip(b.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
    let (left, right) = (&a[start..a.len() - end], &b[start..b.len() - end]);
    let mut told: Vec<Line<'a>> = a[..start].iter().map(|line| Line::Same(line)).collect();
    if left.len().saturating_mul(right.len()) > MOST_PAIRS {
        told.extend(left.iter().map(|line| Line::Gone(line)));
        told.extend(right.iter().map(|line| Line::New(line)));
    } else {
        between(left, right, &mut told);
    }
    told.extend(a[a.len() - end..].iter().map(|line| Line::Same(line)));
    told
}

/// By the longest common subsequence.
fn between<'a>(a: &[&'a str], b: &[&'a str], told: &mut Vec<Line<'a>>) {
    let width = b.len() + 1;
    let mut longest = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i * width + j] = match a[i] == b[j] {
                true => longest[(i + 1) * width + j + 1] + 1,
                false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            told.push(Line::Same(a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1])
        {
            told.push(Line::Gone(a[i]));
            i += 1;
        } else {
            told.push(Line::New(b[j]));
            j += 1;
        }
    }
}

/// Only what differs, with the header of the step in which it stands.
pub fn changes(one: &str, other: &str) -> Vec<String> {
    let mut told = Vec::new();
    let mut heading: Option<&str> = None;
    for line in lines(one, other) {
        match line {
            Line::Same(text) if text.starts_with("name = ") => heading = Some(text),
            Line::Same(text) if text.starts_with("[[") => heading = None,
            Line::Same(_) => {}
            Line::Gone(text) | Line::New(text) => {
                if let Some(heading) = heading.take() {
                    told.push(format!("  {heading}"));
                }
                let sign = if matches!(line, Line::Gone(_)) { '-' } else { '+' };
                told.push(format!("{sign} {text}"));
            }
        }
    }
    told
}
