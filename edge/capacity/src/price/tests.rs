use super::*;
use proptest::prelude::*;

#[test]
fn the_embedded_book_is_sound_and_says_what_nobody_verified() {
    let book = PriceBook::embedded();
    assert_eq!(book.currency, "USD");
    for key in Key::ALL {
        assert_eq!(book.price(*key).unit, key.unit(), "{}", key.as_str());
    }
    let doubts = book.doubts(Date::new(2026, 11, 27).unwrap(), 400);
    assert!(doubts.iter().any(|doubt| doubt.source == "own" && doubt.unverified));
    assert!(doubts.iter().any(|doubt| doubt.source == "lambda" && doubt.stale_days == Some(422)));
    assert!(!doubts.iter().any(|doubt| doubt.source == "workers"));
}

fn errors(change: impl Fn(&str) -> String) -> String {
    PriceBook::parse(&change(EMBEDDED)).unwrap_err().to_string()
}

#[test]
fn all_errors_of_a_book_are_told_at_once_each_with_line_and_key() {
    let text = errors(|text| {
        text.replace("lambda.requests = { amount = 0.20,", "lambda.requests = { amount = -0.20,")
            .replace("lambda.arm = { amount = 0.0000133334,", "lambda.arm = { amount = nan,")
            .replace("amount = 0.30, unit = \"million requests\"", "amount = 0.30, unit = \"crate\"")
            .replace("lambda_edge.requests", "lambda_edge.querries")
            .replace("own.power = { amount = 0.22, unit = \"kWh\"", "own.power = { amount = 0.22, unit = \"hour\"")
            .replace("vcpus = 16\nmemory_gb = 64", "vcpus = 1.5")
    });
    let line = |needle: &str| EMBEDDED.lines().position(|line| line.starts_with(needle)).unwrap() + 1;
    for (at, expected) in [
        (line("lambda.requests"), "price.lambda.requests.amount: is negative (-0.2)"),
        (line("lambda.arm"), "price.lambda.arm.amount: is not a number (nan)"),
        (line("workers.requests"), "price.workers.requests.unit: \"crate\" is an unknown unit"),
        (line("lambda_edge.requests"), "price.lambda_edge.querries: is no price"),
        (line("own.power"), "price.own.power.unit: must be \"kWh\", not \"hour\""),
    ] {
        assert!(text.contains(&format!("line {at}: {expected}")), "{expected}\n{text}");
    }
    assert!(text.contains("price.lambda_edge.requests: is missing: the price of one million requests"), "{text}");
    assert!(text.contains("own.edge-16.vcpus: must be a whole number"), "{text}");
    assert!(text.contains("own.edge-16.memory_gb: is missing"), "{text}");
    assert_eq!(text.lines().count(), 8, "{text}");
}

#[test]
fn what_is_no_book_says_so() {
    assert!(errors(|_| "price = ".to_owned()).starts_with("line 1: the file:"));
    assert!(errors(|_| String::new()).contains("currency: is missing"));
    assert!(errors(|text| text.replace("\"USD\"", "\"dollars\"")).contains("is no currency"));
    assert!(
        errors(|text| text.replace("date = 2026-08-03", "date = \"2026-08-03\""))
            .contains("must be a date without quotes")
    );
    assert!(
        errors(|text| text.replace("source = \"workers\"", "source = \"hearsay\""))
            .contains("\"hearsay\" is not among [sources]")
    );
    assert!(errors(|_| " ".repeat(2 << 20)).contains("is larger than"));
}

#[test]
fn money_reads_like_money() {
    for (amount, text) in
        [(0.0, "0.00"), (1_234_567.891, "1,234,567.89"), (0.004_2, "0.004200"), (12.345, "12.35"), (-3.0, "0.00")]
    {
        assert_eq!(Money::from_f64(amount).to_string(), text);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(at in 0..EMBEDDED.len(), junk in "[\\PC]{0,8}") {
        let at = (at..).find(|at| EMBEDDED.is_char_boundary(*at)).unwrap();
        let _ = PriceBook::parse(&format!("{}{junk}{}", &EMBEDDED[..at], &EMBEDDED[at..]));
        let _ = PriceBook::parse(&EMBEDDED[..at]);
    }
}
