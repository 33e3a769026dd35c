//! One suite for every store: what it says holds for the embedded store and for a real Redis alike.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod cluster;
mod events;
mod failures;
mod first;
mod leases;
mod made;
mod property;
mod proxy;
mod redis;
mod rooms;
mod runs;
mod sentinel;
mod server;
mod stage;
mod steering;
mod tls;

/// Each named function of a module is a test on each store.
macro_rules! on_every_store {
    ($($module:ident: $($name:ident)+;)+) => {
        $(mod $module {
            $(mod $name {
                #[tokio::test]
                async fn embedded() {
                    crate::$module::$name(crate::stage::Stage::embedded()).await;
                }

                #[tokio::test]
                async fn redis() {
                    crate::$module::$name(crate::stage::Stage::redis().await).await;
                }
            })+
        })+

        /// All of them one after the other: a cluster takes long to start.
        pub(crate) async fn all_in(cluster: &std::sync::Arc<tokio::sync::Mutex<crate::cluster::Cluster>>) {
            $($(
                crate::$module::$name(crate::stage::Stage::cluster(cluster).await).await;
            )+)+
        }
    };
}

mod store {
    on_every_store! {
        rooms:
            the_first_grant_wins_and_the_others_are_told_who_has_it
            a_grant_replaces_exactly_the_record_that_was_seen
            a_grant_that_nobody_opens_is_absent_after_its_time
            a_lookup_starts_the_time_of_a_grant_anew
            a_room_is_opened_once_and_in_its_generation_only
            a_room_that_opened_since_is_not_taken_by_who_saw_it_granted
            a_late_release_ends_no_later_generation
            after_a_lapse_a_room_is_its_nodes_again_under_a_new_epoch
            after_a_lapse_a_room_that_another_took_is_lost
            an_open_room_is_handed_over_by_its_holder_alone_and_only_once
            epochs_grow_over_rooms_that_ended
            a_raised_counter_is_below_every_later_epoch
            a_number_that_cannot_be_one_of_ours_changes_nothing
            rooms_of_any_name_are_kept_apart
            racing_grants_have_one_winner;
        leases:
            a_lapsed_lease_is_never_renewed_and_its_report_not_published
            a_node_of_another_process_is_refused_until_the_lease_is_over
            a_new_incarnation_ends_no_older_lease
            an_agent_that_leaves_is_over_at_once
            a_bounded_number_of_leases_is_remembered
            a_living_lease_is_never_forgotten;
        steering:
            a_plan_counts_only_if_the_one_before_was_known
            a_node_hears_with_its_renewal_what_is_wanted_of_it
            a_late_watcher_hears_what_was_wanted_of_a_node_since_its_last_report
            a_store_that_was_emptied_learns_from_the_node_what_was_wanted_of_it
            what_is_wanted_of_a_node_is_forgotten_when_it_was_gone_for_long
            only_a_node_without_a_lease_is_purged;
        events:
            a_watcher_sees_what_happens_in_order
            a_late_watcher_gets_what_is_there
            a_node_that_left_is_not_in_a_later_snapshot
            commands_reach_the_incarnation_they_are_for
            schedulers_are_listed_while_they_enlist;
        runs:
            in_a_new_run_everything_written_before_is_void
            a_wipe_is_a_new_run
            an_unlapsed_node_keeps_its_epoch_in_a_new_run_and_beats_lower_ones
            after_the_first_epoch_of_a_run_no_older_one_is_accepted
            a_lapsed_node_asserts_provisionally_in_a_new_run
            a_confirmation_gives_a_new_epoch_and_closes_the_bucket
            a_lapse_in_a_new_run_closes_no_bucket
            an_agent_of_an_earlier_run_leaves_unheard
            a_new_run_ends_watchers;
    }
}
