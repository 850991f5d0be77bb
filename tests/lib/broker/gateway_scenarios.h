// SPDX-License-Identifier: BSD-3-Clause
/// The crash scenarios of rare paths of the MQTT-SN gateway. The tests in crash_gateway.cc and
/// crash_gateway_qos2.cc explore them, and mutation switches calls off under them.
#pragma once
#include "support/explorer.h"

namespace chainring::testing_broker {

test::scenario address_of_another_worker(); ///< a session that waits for an address
/// A publish that waits for room at another worker, to a registered topic or under a short name.
test::scenario publish_set_aside(bool short_name);
test::scenario asked_for_wills();          ///< WILLTOPICREQ and WILLMSGREQ
test::scenario sent_again_with_dup();      ///< whose PUBACK was lost
test::scenario exactly_once_on_the_wire(); ///< both handshakes of QoS 2

} // namespace chainring::testing_broker
