//! The house: floors, effect leaves, and the places where the laws are made.

#[test]
fn the_plan_names_every_room() {
    let plan = std::fs::read_to_string("src/lib.rs").expect("the plan");
    for entry in std::fs::read_dir("src").expect("src") {
        let name = entry.expect("entry").file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        assert!(["lib", "main"].contains(&name.as_str()) || plan.contains(&format!("pub mod {name};")), "{name}");
    }
}
