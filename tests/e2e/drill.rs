//! A short drill: a few faults in random order under load. `scripts/drill` is the long one.

use meshgate_tests::deployment::Paths;
use meshgate_tests::drill::{self, Fault, Plan, Rules};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_heals_by_itself_and_costs_no_more_than_it_must() {
    let _turn = meshgate_tests::turn::alone().await;
    let plan = Plan {
        seed: 20_260_101,
        rounds: 4,
        faults: vec![
            Fault::ManagementKill,
            Fault::AgentKill,
            Fault::ControlCut,
            Fault::Descriptors,
        ],
        paths: vec![Paths::Direct],
        rules: Rules::Outcomes,
        logs: None,
    };

    let report = drill::run(&plan).await.unwrap();

    println!("{}", report.table());
    assert!(
        report.broken().is_empty(),
        "seed {}: {:#?}",
        plan.seed,
        report.broken()
    );
}
