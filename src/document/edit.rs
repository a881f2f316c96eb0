//! The nearest name: what somebody probably meant.

/// The one of `known` that is nearest to `word`, if it is near enough to be a slip of the pen.
///
/// Near enough: as many edits (insert, delete, replace, swap two neighbours) as a third of the word's length, at least one.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    let word: Vec<char> = word.chars().take(LONGEST + 1).collect();
    if word.len() > LONGEST {
        return None;
    }
    let allowed = (word.len() / 3).max(1);
    let near = known.into_iter().map(|name| (edits(&word, name), name)).filter(|(edits, _)| *edits <= allowed);
    near.min().map(|(_, name)| name)
}

/// How many edits lead from `from` to `to` (optimal string alignment).
fn edits(from: &[char], to: &str) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=from.len()).collect();
    let mut last = None;
    for (row, wanted) in to.chars().enumerate() {
        let mut here = vec![row + 1];
        for (column, &given) in from.iter().enumerate() {
            let at = |line: &[usize], column: usize| line.get(column).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&above, column) + usize::from(given != wanted);
            let inserted = at(&above, column + 1) + 1;
            let deleted = at(&here, column) + 1;
            let swaps = column > 0 && last == Some(given) && from.get(column - 1) == Some(&wanted);
            let swapped = if swaps { at(&before, column - 1) + 1 } else { usize::MAX };
            here.push(replaced.min(inserted).min(deleted).min(swapped));
        }
        last = Some(wanted);
        before = std::mem::replace(&mut above, here);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_a_slip_away() {
        let known = ["timeout", "connect_timeout", "tags", "scopes"];
        assert_eq!(nearest("tiemout", known), Some("timeout"));
        assert_eq!(nearest("scope", known), Some("scopes"));
        assert_eq!(nearest("connect-timeout", known), Some("connect_timeout"));
        assert_eq!(nearest("banana", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest(&"t".repeat(1000), known), None);
    }

    #[test]
    fn a_swap_of_neighbours_is_one_edit() {
        let word: Vec<char> = "abcd".chars().collect();
        assert_eq!(edits(&word, "abdc"), 1);
        assert_eq!(edits(&word, "abcd"), 0);
        assert_eq!(edits(&word, "xabcd"), 1);
        assert_eq!(edits(&word, ""), 4);
    }
}
