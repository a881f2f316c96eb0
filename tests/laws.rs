//! The laws, from outside: what would skip a step of the broker's page does not compile.

#[test]
fn a_step_that_is_left_out_does_not_compile() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/laws/the_order_compiles.rs");
    cases.compile_fail("tests/laws/no_*.rs");
}
