// Guard: numbers that are not finite, found before they spread: where in the forward pass they first appear, and
// whether the weights are still fit to be saved.
#pragma once

#include <string>

#include "train/objective.h"
#include "train/parameters.h"

namespace fathom {

/// Runs the slot forward again and names the first place whose output is not finite: "the embedding's output",
/// "layer 3", or "the output head or an MTP module" when the main model's hidden states are all finite.
std::string first_place_not_finite(const Run& run, const Transformer& model, const SlotTokens& slot);

/// The first tensor in plan order whose master is not finite; empty: all are finite.
std::string first_master_not_finite(Kernels& kernels, const Parameters& parameters);

}  // namespace fathom
