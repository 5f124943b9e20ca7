use super::Plan;
/// x
pub fn html(_plan: &Plan) -> String { String::new() }
