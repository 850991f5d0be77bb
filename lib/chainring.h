// SPDX-License-Identifier: BSD-3-Clause
/// Everything in libchainring.
#pragma once
#include "broker/broker.h"
#include "chain/block_store.h"
#include "chain/message.h"
#include "map/durable_map.h"
#include "map/seq_map.h"
#include "media/media.h"
#include "region/region.h"
#include "ring/ring.h"
#include "seqlock/seqlock.h"
#include "timer/timer.h"
#include "wire/mqttsn.h"
