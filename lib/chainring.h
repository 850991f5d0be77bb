// SPDX-License-Identifier: BSD-3-Clause
/// Everything in libchainring.
#pragma once
#include "media/media.h"
