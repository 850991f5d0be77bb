// SPDX-License-Identifier: BSD-3-Clause
/// The texts of --listen.
#pragma once
#include <string>
#include <vector>

#include "base/error.h"
#include "mqtt/server.h"

namespace chainring::app {

/// True for the text of a listener for MQTT-SN.
[[nodiscard]] bool is_of_mqtt_sn(const std::string& text) noexcept;
/// Parses mqttsn://:PORT, or mqttsn:// for the usual port, and returns the UDP port.
/// errc::invalid_argument says what is wrong with the text.
[[nodiscard]] result<std::uint16_t> parse_mqtt_sn_listener(const std::string& text);
/// Parses a listener for MQTT such as mqtt://, ws://:8080/mqtt or mqtts://?max-connections=100.
/// errc::invalid_argument says what is wrong with the text.
[[nodiscard]] result<mqtt::listener_config> parse_listener(const std::string& text);
/// Says how a listener is reached, such as "ws://:8080/mqtt".
[[nodiscard]] std::string to_string(const mqtt::listener_config& l);

} // namespace chainring::app
