//! The name that a mistyped one was probably meant to be.

/// The candidate that shares most words with `name`; none, if no word is shared. A word may be cut short.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let asked = words(name);
    let shared = |candidate: &str| {
        let words = words(candidate);
        let is_shared = |word: &&String| {
            words.iter().any(|other| other.starts_with(word.as_str()) || word.starts_with(other.as_str()))
        };
        asked.iter().filter(is_shared).count()
    };
    candidates
        .map(|candidate| (shared(candidate), candidate))
        .filter(|(count, _)| *count > 0)
        .max_by_key(|(count, _)| *count)
        .map(|(_, candidate)| candidate)
}

fn words(name: &str) -> Vec<String> {
    name.to_lowercase().split(['-', '_', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_candidate_with_most_words_in_common_is_found() {
        let names = ["rst-abort", "rst-no-listener", "half-open-syn"];
        let find = |name| nearest(name, names.into_iter());
        assert_eq!(find("no_listener"), Some("rst-no-listener"));
        assert_eq!(find("half-open-sync"), Some("half-open-syn"));
        assert_eq!(find("RST-ABO"), Some("rst-abort"));
        assert_eq!((find("S999"), find("")), (None, None));
    }
}
