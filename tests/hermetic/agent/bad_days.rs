//! bursar before the simulator: `docs/simulator.md` tells what a caller is answered on each kind of bad day while there is no
//! token yet, and this is so.

use std::time::Duration;

use super::rig::{Plan, Rig};
use super::wire::eventually;

/// So that a renewal is soon due, and a token outlives its test.
const LIFETIME: Duration = Duration::from_secs(12);

/// The rows of the page: the day, the status, and the error or nothing.
fn told() -> Vec<(&'static str, u16, &'static str)> {
    let page = include_str!("../../../docs/simulator.md");
    let rows = page.lines().skip_while(|line| !line.starts_with("| on this day")).skip(2);
    let read = |row: &'static str| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let (status, error) = cells[2].split_once(" `").unwrap_or((cells[2], ""));
        (cells[1], status.parse().unwrap_or_else(|_| panic!("no status: {row}")), error)
    };
    rows.take_while(|line| line.starts_with('|')).map(read).collect()
}

/// A provider for each day, so that none remembers another's.
async fn rig(days: usize) -> Rig {
    let entry = |nth: usize| {
        format!(
            "[provider.day{nth}]\nissuer = \"ISSUER\"\nclient_id = \"bursar\"\ntags = [\"lab\"]\n\
             client_secret = {{ store = \"local\", name = \"client\" }}\nscopes = [\"read\", \"write\"]\n\
             timeout = \"1s\"\nconnect_timeout = \"1s\"\nrefresh_at = 0.05\n"
        )
    };
    Plan { tables: (0..days).map(entry).collect(), lifetime: LIFETIME, ..Plan::default() }.raise().await
}

#[tokio::test]
async fn a_cold_caller_is_answered_as_the_page_says() {
    let days = told();
    assert!(days.len() > 20, "the table was not found");
    let rig = rig(days.len()).await;
    for (nth, (day, status, error)) in days.into_iter().enumerate() {
        rig.issuer().begin(day.parse().unwrap()).unwrap();
        let reply = rig.token("checkout", &format!("day{nth}"), "scope=read+write").await;
        assert_eq!(reply.outcome(), (status, error.to_owned()), "{day}: {reply:?}");
        assert_eq!(reply.header("retry-after").is_some(), status == 503, "{day}: {reply:?}");
    }
    assert_eq!(rig.issuer().requests().elsewhere, 0, "no credential went after a redirect");
}

#[tokio::test]
async fn a_valid_token_is_served_on_a_bad_day_of_each_kind_and_declared_stale() {
    let days = ["503=7", "reset", "html", "redirect", "invalid_client", "expires_in=null", "wider-scope", "slow=1h"];
    let rig = rig(days.len()).await;
    for (nth, day) in days.into_iter().enumerate() {
        let provider = format!("day{nth}");
        rig.issuer().begin("".parse().unwrap()).unwrap();
        let valid = rig.token("checkout", &provider, "scope=read").await.token();
        rig.issuer().begin(day.parse().unwrap()).unwrap();
        let stale = eventually(day, async || {
            let reply = rig.token("checkout", &provider, "scope=read").await;
            assert_eq!(reply.status, 200, "{day}: {reply:?}");
            (reply.json()["stale"] == true).then(|| reply.token())
        });
        assert_eq!(stale.await, valid, "{day}");
    }
}
