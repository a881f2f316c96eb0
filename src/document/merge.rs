//! Several documents as one: what the files of `conf.d` add to the first.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::shape::{Kind, Shape};

/// Adds `more` to `whole`. A key that both define keeps its first value: the walk has reported it.
pub(super) fn into<'i>(whole: &mut DeTable<'i>, more: DeTable<'i>, shape: &Shape) {
    for (key, value) in more {
        let inner = match &shape.kind {
            Kind::Table(table) => table.keys.get(key.get_ref().as_ref()).map(|key| &key.shape),
            Kind::Anything
            | Kind::Flag
            | Kind::Text(_)
            | Kind::Integer(_)
            | Kind::Number(_)
            | Kind::List(_)
            | Kind::Tagged(_)
            | Kind::Choice(_)
            | Kind::OneOf(_) => None,
        };
        match whole.get_mut(key.get_ref().as_ref()) {
            None => drop(whole.insert(key, value)),
            Some(first) => join(first, value, inner),
        }
    }
}

fn join<'i>(first: &mut Spanned<DeValue<'i>>, more: Spanned<DeValue<'i>>, shape: Option<&Shape>) {
    let Some(shape) = shape else { return };
    match (first.get_mut(), more.into_inner()) {
        (DeValue::Table(first), DeValue::Table(more)) => into(first, more, shape),
        (DeValue::Array(first), DeValue::Array(more)) if shape.is_list_of_tables() => {
            more.into_iter().for_each(|value| first.push(value));
        }
        _ => {}
    }
}
