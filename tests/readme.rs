pub fn tests() -> Vec<crate::harness::test::Test> {
    Vec::new()
}
