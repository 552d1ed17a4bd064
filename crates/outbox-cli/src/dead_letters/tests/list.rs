//! `list`.

use super::fixture::Fixture;

#[tokio::test]
async fn a_list_says_whether_there_are_more() {
    let fixture = Fixture::new().await;
    fixture
        .dead_letters("a", &[(1, "poison"), (2, "note")])
        .await;
    let (_, written) = fixture.run("list --most 1").await;
    let said = "\n1 dead letter (there are more, see --most)\n";
    assert!(written.ends_with(said), "{written}");
    let (_, written) = fixture.run("list --most 2").await;
    assert!(written.ends_with("\n2 dead letters\n"), "{written}");
}
