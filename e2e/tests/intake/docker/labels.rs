//! Which containers are followed.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn container_of_an_unknown_app_is_followed_from_its_first_line_once_there_is_the_app()
-> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let intake = world.follows(&containers)?;
    let app = ["--label", "spillway.app=later"];
    let id = containers.run_of(&app, &[], "seq 100; exec sleep 1000").await?;
    wait::until_true("a refusal", DEADLINE, async || Ok(intake.log().contains(&id))).await?;
    world
        .admin
        .execute(
            "insert into apps (id, environment_id, handle, image)
             values (gen_random_uuid(), $1, 'later', 'none')",
            &[&world.environment.id.uuid()],
        )
        .await?;
    world.lines_until(100).await?;
    let records = world.records().await?;
    assert_counted(&records, 100);
    let app = records[0].origin.app.as_ref().context("an app")?;
    assert_eq!(app.handle.as_str(), "later");
    assert_eq!(intake.log().matches(&id).count(), 2, "{}", intake.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn container_whose_labels_name_nothing_is_not_followed() -> Result<()> {
    let world = World::new().await?;
    let containers = Containers::new(&world).await?;
    let intake = world.follows(&containers)?;
    let both = ["--label", "spillway.app=web", "--label", "spillway.database=main"];
    let other = ["--label", "spillway.app=web", "--label", "spillway.organization=other"];
    for labels in [&[][..], &both, &other] {
        let id = containers.run_of(labels, &[], "echo secret").await?;
        wait::until_true("a refusal", DEADLINE, async || Ok(intake.log().contains(&id))).await?;
    }
    containers
        .run_of(
            &["--label", "spillway.organization=acme"],
            &["--label", "spillway.app=web"],
            "echo known",
        )
        .await?;
    assert_eq!(texts(&world.ends(1).await?), ["known"]);
    let rows = world.admin.query_one("select count(*) from container_logs", &[]).await?;
    assert_eq!(rows.get::<_, i64>(0), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn handles_of_two_organizations_are_followed_where_the_organization_is_said() -> Result<()> {
    let world = World::new().await?;
    // No intake of another test follows what has these names.
    let handle = format!("walls-{}", world.environment.id.uuid().simple());
    let rename = format!("update environments set handle = '{handle}'");
    world.admin.batch_execute(&rename).await?;
    let other = world.other_tenant().await?;
    let by_id = Containers::new(&world).await?;
    let mut containers = Containers::new(&world).await?;
    containers.environment = handle;
    let intake = world.follows(&containers)?;
    let web = &["--label", "spillway.app=web"];
    let ambiguous = containers.run_of(web, &[], "echo whose").await?;
    wait::until_true("a refusal", DEADLINE, async || Ok(intake.log().contains(&ambiguous))).await?;
    for organization in ["acme", "umbrella"] {
        let label = format!("spillway.organization={organization}");
        containers.run_of(&["--label", &label], web, &format!("echo of {organization}")).await?;
    }
    by_id.run_of(web, &[], "echo of acme by id").await?;
    world.ends(2).await?;
    let theirs = wait::until("the other's line", DEADLINE, async || {
        let records = world.records_of(&other.environment).await?;
        Ok(actions(&records).iter().any(is_end).then_some(records))
    })
    .await?;
    assert_eq!(texts(&theirs), ["of umbrella"]);
    let mut ours = texts(&world.records().await?);
    ours.sort();
    assert_eq!(ours, ["of acme", "of acme by id"]);
    Ok(())
}

fn is_end(action: &ContainerAction) -> bool {
    matches!(action, ContainerAction::Exited { .. })
}
