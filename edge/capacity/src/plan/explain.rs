use super::Plan;

pub(super) fn explain(_plan: &Plan) -> String { String::new() }
