// The report of a fold, from what became of its channels.
#pragma once

#include <vector>

#include "bnpp/fold.h"
#include "fold/channel.h"

namespace bnpp {

FoldReport report_of(const std::vector<ChannelChange>& changes, const Layer& layer,
                     std::int64_t terms);

}  // namespace bnpp
