// SPDX-License-Identifier: BSD-3-Clause
/// Everything in libchainring.
#pragma once
#include "broker/broker.h"
#include "block/block_store.h"
#include "message/message.h"
#include "map/durable_map.h"
#include "map/seq_map.h"
#include "media/media.h"
#include "region/region.h"
#include "ring/ring.h"
#include "seqlock/seqlock.h"
#include "timer/timer.h"
#include "mqttsn/codec.h"
