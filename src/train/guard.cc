// Looking for the first number that is not finite.
#include "train/guard.h"

#include <cmath>

namespace fathom {
namespace {

/// A sum of squares is finite exactly when every element is (FP32 squares cannot overflow a double).
bool is_finite(Kernels& kernels, const Tensor& t) { return std::isfinite(kernels.sum_of_squares(t)); }

}  // namespace

std::string first_place_not_finite(const Run& run, const Transformer& model, const SlotTokens& slot) {
  const ArenaScope scope(run.arena);
  const DocumentLayout layout(slot.document_offsets);
  const auto T = static_cast<int64_t>(slot.tokens.size());
  const Tensor tokens = Tensor::allocate(run.arena, DType::kI32, {T});
  std::copy(slot.tokens.begin(), slot.tokens.end(), tokens.ptr<int32_t>());
  const Tensor embedded = run.make({T, model.config().hidden_size});
  run.k.embed(tokens, model.weights().embedding.value, embedded);
  if (!is_finite(run.k, embedded)) return "the embedding's output";
  std::vector<Tensor> layers;
  model.forward(run, {.tokens = slot.tokens, .positions = layout.positions, .segments = layout.segments}, nullptr,
                &layers);
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    if (!is_finite(run.k, layers[layer])) return "layer " + std::to_string(layer);
  }
  return "the output head or an MTP module";
}

std::string first_master_not_finite(Kernels& kernels, const Parameters& parameters) {
  for (const Parameters::Entry& entry : parameters.entries()) {
    if (!is_finite(kernels, entry.master)) return entry.spec.name;
  }
  return {};
}

}  // namespace fathom
