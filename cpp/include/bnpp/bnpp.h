// All of bnpp's C++ interface.
#pragma once

#include "bnpp/batch_norm.h"
#include "bnpp/derivatives.h"
#include "bnpp/dtype.h"
#include "bnpp/error.h"
#include "bnpp/fold.h"
#include "bnpp/group_norm.h"
#include "bnpp/layer_norm.h"
#include "bnpp/moments.h"
#include "bnpp/recycled.h"
#include "bnpp/runtime.h"
#include "bnpp/tensor.h"
