use super::*;

#[test]
fn the_defaults_are_those_of_the_code() {
    let config = Config::load(None, []).unwrap();
    assert_eq!(config.turn_limits(), TurnLimits::default());
    assert_eq!(config.http_limits(), HttpLimits::default());
}

#[test]
fn variables_are_the_keys_in_capitals() {
    for row in ROWS {
        let expected = if row.key == "database_url" {
            "DATABASE_URL".to_owned()
        } else {
            format!("CHAT_{}", row.key.to_uppercase())
        };
        assert_eq!(row.variable, expected);
    }
}
