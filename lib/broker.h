// SPDX-License-Identifier: BSD-3-Clause
/// The broker and the protocols it speaks. What they stand on is in chainring.h.
#pragma once
// clang-format off: in the order of the components
#include "mqttsn/codec.h"
#include "broker/broker.h"
// clang-format on
