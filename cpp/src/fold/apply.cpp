// y = x * scale + shift: the verb affine with centre 0.
#include <vector>

#include "bnpp/fold.h"
#include "norms/check.h"
#include "norms/operand.h"
#include "norms/plan.h"
#include "norms/schedule.h"
#include "runtime/dispatch.h"

namespace bnpp {

void apply(const Affine& map, const ConstTensor& x, const Tensor& y, int axis) {
  const Check check("Affine");
  axis = check.axis_of(x, axis);
  check.like(x, y, "y");
  if (map.channels() != x.shape[axis]) {
    check.refuse("the map has ", map.channels(), map.channels() == 1 ? " channel" : " channels",
                 ", but x has ", x.shape[axis], " along axis ", axis);
  }
  if (x.size() == 0) return;
  const Plan plan(x, axis);
  const int threads = threads_for(2 * x.size() * size_of(x.dtype));
  const Operand input(x, plan, threads), output(y, plan, threads);
  const Verbs& kernel = verbs(x.dtype, plan.layout);
  const std::vector<double> center(map.scale.size(), 0);
  map_all(plan, threads, [&](const Tile& tile, int worker) {
    const Operand::View in = input.read(tile, worker), out = output.write(tile, worker);
    const auto c = static_cast<std::size_t>(tile.c0);
    AffineTile args{};
    args.x = in.data;
    args.x_stride = in.stride;
    args.y = out.data;
    args.y_stride = out.stride;
    args.rows = plan.rows(tile);
    args.cols = plan.cols(tile);
    args.repeat = plan.inner;
    args.center = &center[c];
    args.scale = &map.scale[c];
    args.offset = &map.shift[c];
    args.stream = output.stream(2);
    args.ahead = output.ahead(2);
    args.wide = true;
    kernel.affine(args);
    output.written(tile, worker);
  });
}

}  // namespace bnpp
