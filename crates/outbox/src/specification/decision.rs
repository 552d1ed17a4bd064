//! The decision on each property of a connector: `properties.txt`, which a person can read too, holds all of them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What is known of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The specification sets it, or leaves it out.
    Ours,
    /// An operator may set it, to a value of this form; the empty form allows every value.
    Free(&'static str),
    /// No one sets it.
    Refused,
}

/// The decisions, by name or by what names begin with.
#[derive(Debug)]
pub(super) struct Decisions {
    named: BTreeMap<String, Decision>,
    families: BTreeMap<String, Decision>,
}

/// The file is part of the program, so the tests find a mistake in it.
pub(super) static DECISIONS: LazyLock<Decisions> =
    LazyLock::new(|| Decisions::read(include_str!("properties.txt")));

/// How similar a known name must be to be named for an unknown one.
const SIMILAR: f64 = 0.7;

impl Decisions {
    /// # Panics
    /// If the text has not the form that the head of `properties.txt` describes.
    fn read(text: &'static str) -> Self {
        let (mut named, mut families) = (BTreeMap::new(), BTreeMap::new());
        let (mut prefixes, mut decision) = (Vec::new(), None);
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if line.starts_with('#') {
                continue;
            }
            if let Some(list) = line.strip_prefix('[') {
                prefixes = list.trim_end_matches(']').split_whitespace().collect();
                if prefixes.is_empty() {
                    prefixes.push("");
                }
            } else if !line.starts_with(' ') {
                decision = Some(Decision::read(line));
            } else {
                let decision = decision.expect("a decision stands above its names");
                for name in line.split_whitespace() {
                    for prefix in &prefixes {
                        let (map, key) = match name.strip_suffix('*') {
                            Some(family) => (&mut families, format!("{prefix}{family}")),
                            None => (&mut named, format!("{prefix}{name}")),
                        };
                        let before = map.insert(key, decision);
                        assert!(before.is_none(), "{prefix}{name} is decided twice");
                    }
                }
            }
        }
        Self { named, families }
    }

    /// The decision on a property: its own, or that of the longest beginning of its name.
    pub(super) fn of(&self, name: &str) -> Option<Decision> {
        let family = || {
            let begin = |(family, _): &(&String, _)| name.starts_with(family.as_str());
            // Of two beginnings of one name the longer is the later.
            self.families.iter().rev().find(begin)
        };
        self.named
            .get(name)
            .or_else(|| family().map(|(_, decision)| decision))
            .copied()
    }

    /// The known names that an unknown one may mean, the most similar first.
    pub(super) fn nearest(&self, name: &str) -> Vec<String> {
        let mut similar: Vec<(f64, &String)> = self
            .named
            .keys()
            .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
            .filter(|(similarity, _)| *similarity >= SIMILAR)
            .collect();
        similar.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        similar
            .into_iter()
            .take(3)
            .map(|(_, known)| known.clone())
            .collect()
    }
}

impl Decision {
    fn read(line: &'static str) -> Self {
        let (head, reason) = line
            .split_once(": ")
            .expect("a reason stands behind the decision");
        let (word, values) = head.split_once(' ').unwrap_or((head, ""));
        let verdict = match word {
            "ours" => Verdict::Ours,
            "free" => Verdict::Free(values),
            "refused" => Verdict::Refused,
            _ => panic!("{word} is no decision"),
        };
        Self { verdict, reason }
    }
}

/// Whether a value has one of the forms: `a|b`, `1..10`, `0|600..`; the empty list allows every value.
pub(super) fn allows(forms: &str, value: &str) -> bool {
    let within = |form: &str| match form.split_once("..") {
        Some((least, most)) => value.parse::<i64>().is_ok_and(|number| {
            least.parse().is_ok_and(|least: i64| least <= number)
                && (most.is_empty() || most.parse().is_ok_and(|most: i64| number <= most))
        }),
        None => value == form,
    };
    forms.is_empty() || forms.split('|').any(within)
}

#[cfg(test)]
mod tests;
