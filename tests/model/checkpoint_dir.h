// A model of the tests as a directory that load_model and fathom quantize read.
#pragma once

#include <gtest/gtest.h>

#include "checkpoint/checkpoint_writer.h"
#include "test_models.h"

namespace fathom::testing {

/// Writes config.json and the weights as the model has them: F32 vectors, matrices in its dtype.
inline void write_model(const Model& model, const Path& dir) {
  std::vector<TensorDecl> tensors;
  // Visiting does not change the weights; the signature serves loading too.
  auto& weights = const_cast<ModelWeights&>(model.weights);
  visit_weights(model.config, weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    tensors.push_back({spec.name, value.codes.dtype, spec.shape});
  });
  auto writer = CheckpointWriter::create(dir, tensors);
  ASSERT_TRUE(writer) << writer.error().text;
  visit_weights(model.config, weights, [&](const TensorSpec& spec, Weight& value, Tensor*) {
    ASSERT_TRUE(writer->append(spec.name, value.codes));
  });
  ASSERT_TRUE(writer->add_file("config.json", model.config.to_json().dump(2)));
  ASSERT_TRUE(writer->commit());
}

}  // namespace fathom::testing
