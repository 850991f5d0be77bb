// SPDX-License-Identifier: BSD-3-Clause
/// The crash scenarios of the core under the line front end. Each is one life of a broker; the
/// tests in crash_line.cc, crash_received.cc, crash_properties.cc, crash_queues.cc, crash_qos2.cc,
/// crash_two_workers.cc, crash_groups.cc, crash_moves.cc, crash_memberships.cc and crash_rare.cc
/// explore them, and mutation switches calls off under them.
#pragma once
#include <vector>

#include "support/explorer.h"

namespace chainring::testing_line {

// crash_line.cc
test::scenario publish_and_consume();        ///< several in flight, acknowledged in any order
test::scenario sessions_and_subscriptions(); ///< settled with the burst they join
test::scenario ended_and_made_again();       ///< one identity, in one burst
test::scenario published_in_the_middle();    ///< of a burst in which a session ends
test::scenario expired_sessions();           ///< at an open and under way
test::scenario expired_messages(); ///< in the queues of an absent and of a slow subscriber

// crash_received.cc
test::scenario received_for_one(); ///< payloads kept where they were received
test::scenario received_for_two();

// crash_properties.cc
test::scenario published_with_properties();
test::scenario retained_with_properties();

// crash_queues.cc
test::scenario places_used_again();  ///< acknowledged, released, and placed in again
test::scenario full_queues_refuse(); ///< overflow policy reject
test::scenario full_queues_drop_newest();
test::scenario full_queues_drop_oldest();
test::scenario refused_with_void_slots(); ///< a queue that another worker filled meanwhile
test::scenario queues_that_grow();        ///< several rings, and rings that are left
test::scenario several_extents();         ///< content in runs of blocks that lie apart
test::scenario held_marks();              ///< answers leave behind the marks of their bursts

// crash_qos2.cc
test::scenario publishes_at_qos_2();   ///< repeated and released, with one packet id
test::scenario deliveries_at_qos_2();  ///< received and released, in any order
test::scenario clean_start_at_qos_2(); ///< with an identifier open

// crash_two_workers.cc
test::scenario workers_publish_to_both();     ///< each to a subscriber of both
test::scenario workers_publish_and_release(); ///< one consumes what both publish
test::scenario workers_grow_a_queue();        ///< a ring that one links and the other places in
test::scenario workers_make_room();           ///< drop-oldest asked of another worker
test::scenario workers_while_tables_grow();
test::scenario workers_in_second_segments(); ///< of sessions, queues and subscriptions

// crash_rare.cc
test::scenario many_subscriptions_in_a_burst(); ///< more than a batch of the map holds
test::scenario refused_filters();               ///< whose records are erased again
test::scenario stock_of_rings_used_up();        ///< first messages of several queues
test::scenario queues_that_shrink();
test::scenario growing_queues_drop_oldest();
test::scenario set_aside_with_a_new_queue();
test::scenario begun_clean_twice(); ///< in one burst
test::scenario grown_and_closed();  ///< as an operator asks

// crash_retained.cc
test::scenario set_replaced_and_cleared();
test::scenario two_publishers_in_one_burst(); ///< of one topic
test::scenario cleared_behind_another();      ///< a tombstone that goes to no queue
test::scenario given_to_a_subscription();     ///< all retained messages there are
test::scenario many_topics_in_a_burst();      ///< more than a batch of the map holds
test::scenario many_tombstones_in_a_burst();
test::scenario workers_publish_to_one_topic();
test::scenario workers_fill_a_queue_beside_a_scan();

// crash_wills.cc
test::scenario wills_set_replaced_and_sent();
test::scenario wills_that_rest();                 ///< not sent behind a disconnect
test::scenario wills_of_sessions_that_end();      ///< with their connection
test::scenario wills_of_connections_taken_over(); ///< by a clean start
test::scenario workers_fill_a_queue_of_a_will();
test::scenario will_that_makes_room(); ///< in another worker's queue, beside one without a ring
test::scenario will_that_names_no_message(); ///< whose descriptor another will gets

// crash_groups.cc
test::scenario members_acknowledge_in_any_order();
test::scenario group_ended_and_made_again(); ///< with a message in its queue

// crash_moves.cc
test::scenario members_take_at_qos_2(); ///< each message moves to one member's own queue
test::scenario members_leave_at_qos_2();
test::scenario workers_move_messages_of_a_group();
test::scenario workers_share_a_group(); ///< a member on each

// crash_memberships.cc
test::scenario many_memberships_in_a_burst(); ///< more than a batch of the map holds
test::scenario groups_end_side_by_side();     ///< one is made again with the other's number
test::scenario group_without_members();       ///< whose blocks messages take
test::scenario group_queues_that_shrink();

} // namespace chainring::testing_line
