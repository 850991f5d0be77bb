// SPDX-License-Identifier: BSD-3-Clause
/// The broker and the protocols it speaks. What they stand on is in chainring.h.
#pragma once
// clang-format off: in the order of the components
#include "broker/broker.h"
#include "broker/counters.h"
#include "broker/front_end.h"
#include "broker/operator_view.h"
#include "broker/worker.h"
#include "mqtt/codec.h"
#include "mqtt/properties.h"
#include "mqtt/server.h"
#include "mqtt/values.h"
#include "mqttsn/codec.h"
#include "mqttsn/gateway.h"
#include "mqttsn/gateway_counters.h"
#include "mqttsn/sink.h"
#include "mqttsn/taking_sink.h"
// clang-format on
