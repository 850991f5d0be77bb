// SPDX-License-Identifier: BSD-3-Clause
#include "mqtt_packets.h"

namespace chainring::mqtt::test {
namespace {

using namespace std::string_view_literals;

const user_property two_pairs[] = {{"k", "v"}, {"k", ""}};
const std::uint32_t some_ids[] = {1, 128, 268435455};
const std::uint32_t one_id[] = {7};
const std::string_view two_filters[] = {"a/#", "+"};
const std::string_view one_filter[] = {"a"};
const subscription two_subscriptions[] = {{.filter = "a/#", .qos = qos_level::one},
                                          {.filter = "b",
                                           .qos = qos_level::two,
                                           .no_local = true,
                                           .retain_as_published = true,
                                           .retain_handling = retain_handling::do_not_send}};
const subscription plain_subscriptions[] = {{.filter = "a/#", .qos = qos_level::one},
                                            {.filter = "b"}};
const subscription shared_subscriptions[] = {
    {.filter = "$share/g/t", .retain_handling = retain_handling::send_if_new}};
const reason_code granted[] = {reason_code::granted_qos_0, reason_code::granted_qos_1,
                               reason_code::granted_qos_2, reason_code::unspecified_error};
const reason_code not_granted[] = {reason_code::wildcard_subscriptions_not_supported};
const reason_code gone[] = {reason_code::success, reason_code::no_subscription_existed};

} // namespace

const std::vector<example>& examples() {
  static const std::vector<example> all = {
      // CONNECT
      {v3, connect{.keep_alive_s = 60, .client_id = "ab"},
       "10 0E 0004 4D515454 04 02 003C 0002 6162"},
      {v3, connect{.clean_start = false}, "10 0C 0004 4D515454 04 00 0000 0000"},
      {v3,
       connect{.keep_alive_s = 10,
               .client_id = "c",
               .will = will{.topic = "w",
                            .payload = octets_of("\x01\x02"),
                            .qos = qos_level::two,
                            .retain = true},
               .user_name = "u",
               .password = octets_of("p")},
       "10 1A 0004 4D515454 04 F6 000A 0001 63 0001 77 0002 0102 0001 75 0001 70"},
      {v3, connect{.client_id = "c", .user_name = ""},
       "10 0F 0004 4D515454 04 82 0000 0001 63 0000"},
      {v5, connect{.client_id = "ab"}, "10 0F 0004 4D515454 05 02 0000 00 0002 6162"},
      {v5,
       connect{.clean_start = false,
               .client_id = "c",
               .will = will{.topic = "w",
                            .qos = qos_level::one,
                            .properties = {.payload_format_indicator = true,
                                           .message_expiry_s = 5,
                                           .content_type = "t",
                                           .response_topic = "r",
                                           .correlation_data = octets_of("d"),
                                           .will_delay_s = 9,
                                           .user_properties = two_pairs}},
               .password = octets_of("p"),
               .properties = {.session_expiry_s = 0xFFFFFFFF,
                              .receive_maximum = 10,
                              .maximum_packet_size = 0x10000,
                              .topic_alias_maximum = 3,
                              .request_response_information = true,
                              .request_problem_information = false,
                              .authentication_method = "m",
                              .authentication_data = octets_of("a")}},
       "10 58 0004 4D515454 05 4C 0000"
       " 1C 11FFFFFFFF 15 0001 6D 16 0001 61 1700 1901 21000A 220003 2700010000"
       " 0001 63"
       " 25 0101 0200000005 03 0001 74 08 0001 72 09 0001 64 1800000009"
       " 26 0001 6B 0001 76 26 0001 6B 0000"
       " 0001 77 0000 0001 70"},
      // CONNACK
      {v3, connack{}, "20 02 00 00"},
      {v3, connack{.session_present = true}, "20 02 01 00"},
      {v3, connack{.return_code = connect_return_code::not_authorized}, "20 02 00 05"},
      {v5, connack{.session_present = true}, "20 03 01 00 00"},
      {v5,
       connack{.reason = reason_code::server_moved,
               .properties = {.reason_string = "why", .server_reference = "s"}},
       "20 0D 00 9D 0A 1C 0001 73 1F 0003 776879"},
      {v5,
       connack{.properties = {.session_expiry_s = 1,
                              .receive_maximum = 2,
                              .maximum_packet_size = 3,
                              .topic_alias_maximum = 4,
                              .authentication_method = "m",
                              .authentication_data = octets_of("a"),
                              .assigned_client_id = "i",
                              .response_information = "r",
                              .server_keep_alive_s = 5,
                              .maximum_qos = qos_level::one,
                              .retain_available = false,
                              .wildcard_subscription_available = true,
                              .subscription_ids_available = false,
                              .shared_subscription_available = true}},
       "20 30 00 00 2D 1100000001 12 0001 69 130005 15 0001 6D 16 0001 61 1A 0001 72"
       " 210002 220004 2401 2500 2700000003 2801 2900 2A01"},
      // PUBLISH
      {v3, publish{.topic = "a/b", .payload = octets_of("hi")}, "30 07 0003 612F62 6869"},
      {v3,
       publish{
           .dup = true, .qos = qos_level::one, .retain = true, .packet_id = 0x102, .topic = "a"},
       "3B 05 0001 61 0102"},
      {v3, publish{.qos = qos_level::two, .packet_id = 0xFFFF, .topic = "a"}, "34 05 0001 61 FFFF"},
      {v5, publish{.topic = "a", .payload = octets_of("\0"sv)}, "30 05 0001 61 00 00"},
      {v5,
       publish{.qos = qos_level::one,
               .packet_id = 1,
               .topic = "",
               .payload = octets_of("x"),
               .properties = {.topic_alias = 0x1234}},
       "32 09 0000 0001 03 231234 78"},
      {v5,
       publish{.topic = "t",
               .properties = {.payload_format_indicator = false,
                              .message_expiry_s = 0x01020304,
                              .content_type = "",
                              .response_topic = "r",
                              .correlation_data = octets{},
                              .subscription_ids = some_ids,
                              .user_properties = two_pairs}},
       "30 2C 0001 74 28 0100 0201020304 03 0000 08 0001 72 09 0000"
       " 0B01 0B8001 0BFFFFFF7F 26 0001 6B 0001 76 26 0001 6B 0000"},
      // PUBACK, PUBREC, PUBREL, PUBCOMP
      {v3, puback{.packet_id = 7}, "40 02 0007"},
      {v5, puback{.packet_id = 7}, "40 02 0007"},
      {v5, puback{.packet_id = 7, .reason = reason_code::no_matching_subscribers}, "40 03 0007 10"},
      {v5, puback{.packet_id = 7, .properties = {.reason_string = "r"}},
       "40 08 0007 00 04 1F 0001 72"},
      {v3, pubrec{.packet_id = 8}, "50 02 0008"},
      {v5,
       pubrec{.packet_id = 8,
              .reason = reason_code::quota_exceeded,
              .properties = {.user_properties = two_pairs}},
       "50 11 0008 97 0D 26 0001 6B 0001 76 26 0001 6B 0000"},
      {v3, pubrel{.packet_id = 9}, "62 02 0009"},
      {v5, pubrel{.packet_id = 9, .reason = reason_code::packet_identifier_not_found},
       "62 03 0009 92"},
      {v3, pubcomp{.packet_id = 10}, "70 02 000A"},
      {v5, pubcomp{.packet_id = 10, .reason = reason_code::packet_identifier_not_found},
       "70 03 000A 92"},
      // SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK
      {v3, subscribe{.packet_id = 3, .subscriptions = plain_subscriptions},
       "82 0C 0003 0003 612F23 01 0001 62 00"},
      {v5,
       subscribe{.packet_id = 3,
                 .subscriptions = two_subscriptions,
                 .properties = {.subscription_ids = one_id}},
       "82 0F 0003 02 0B07 0003 612F23 01 0001 62 2E"},
      {v5, subscribe{.packet_id = 3, .subscriptions = shared_subscriptions},
       "82 10 0003 00 000A 2473686172652F672F74 10"},
      {v3, suback{.packet_id = 3, .reasons = granted}, "90 06 0003 00 01 02 80"},
      {v5, suback{.packet_id = 3, .reasons = not_granted, .properties = {.reason_string = "r"}},
       "90 08 0003 04 1F 0001 72 A2"},
      {v3, unsubscribe{.packet_id = 4, .filters = two_filters}, "A2 0A 0004 0003 612F23 0001 2B"},
      {v5,
       unsubscribe{
           .packet_id = 4, .filters = one_filter, .properties = {.user_properties = two_pairs}},
       "A2 13 0004 0D 26 0001 6B 0001 76 26 0001 6B 0000 0001 61"},
      {v3, unsuback{.packet_id = 4}, "B0 02 0004"},
      {v5, unsuback{.packet_id = 4, .reasons = gone}, "B0 05 0004 00 00 11"},
      // PINGREQ, PINGRESP, DISCONNECT, AUTH
      {v3, pingreq{}, "C0 00"},
      {v5, pingreq{}, "C0 00"},
      {v3, pingresp{}, "D0 00"},
      {v5, pingresp{}, "D0 00"},
      {v3, disconnect{}, "E0 00"},
      {v5, disconnect{}, "E0 00"},
      {v5, disconnect{.reason = reason_code::disconnect_with_will}, "E0 01 04"},
      {v5, disconnect{.properties = {.session_expiry_s = 0}}, "E0 07 00 05 1100000000"},
      {v5, auth{}, "F0 00"},
      {v5,
       auth{.reason = reason_code::continue_authentication,
            .properties = {.authentication_method = "m", .authentication_data = octets_of("d")}},
       "F0 0A 18 08 15 0001 6D 16 0001 64"},
  };
  return all;
}

} // namespace chainring::mqtt::test
