#include "calls.h"

std::vector<Peer> onednn_peers() { return {}; }
