#include "cluster/hardware.h"

#include <array>
#include <cmath>

namespace fathom {
namespace {

constexpr const char* kPaper = "arXiv 2505.09343, section 4.1 and 4.3";
constexpr const char* kSheet = "vendor's data sheet, dense rates";
constexpr const char* kSameAsH100 = "as H100 (the variants differ in NVLink and FP64)";
constexpr const char* kDerived =
    "line rate times 0.8, the ratio of effective to line rate in arXiv 2505.09343, section 4.3";

struct Fact {
  const char* name;
  const char* unit;
  double Hardware::*member;
};

constexpr std::array<Fact, 9> kFacts{{{"memory_gb", "GB", &Hardware::memory_gb},
                                      {"memory_gbps", "GB/s", &Hardware::memory_gbps},
                                      {"bf16_tflops", "TFLOP/s", &Hardware::bf16_tflops},
                                      {"fp8_tflops", "TFLOP/s", &Hardware::fp8_tflops},
                                      {"scale_up_gbps", "GB/s", &Hardware::scale_up_gbps},
                                      {"scale_up_effective_gbps", "GB/s", &Hardware::scale_up_effective_gbps},
                                      {"nic_gbps", "GB/s", &Hardware::nic_gbps},
                                      {"nic_effective_gbps", "GB/s", &Hardware::nic_effective_gbps},
                                      {"power_w", "W", &Hardware::power_w}}};

// Values in the order of kFacts, with a source each.
using Row = std::array<std::pair<double, const char*>, 9>;

Hardware make(const char* name, int gpus_per_node, const Row& row) {
  Hardware h;
  h.name = name;
  h.gpus_per_node = gpus_per_node;
  for (size_t i = 0; i < kFacts.size(); ++i) {
    h.*kFacts[i].member = row[i].first;
    h.facts.push_back({kFacts[i].name, row[i].first, kFacts[i].unit, "", row[i].second});
  }
  return h;
}

std::vector<Hardware> presets() {
  return {make("h800", 8,
               {{{80, kSameAsH100},
                 {3350, kSameAsH100},
                 {989.4, kSameAsH100},
                 {1978.9, kSameAsH100},
                 {200, kPaper},
                 {160, kPaper},
                 {50, kPaper},
                 {40, kPaper},
                 {700, kSameAsH100}}}),
          make("h100", 8,
               {{{80, kSheet},
                 {3350, kSheet},
                 {989.4, kSheet},
                 {1978.9, kSheet},
                 {450, kSheet},
                 {360, kDerived},
                 {50, kPaper},
                 {40, kPaper},
                 {700, kSheet}}}),
          make("h200", 8,
               {{{141, kSheet},
                 {4800, kSheet},
                 {989.4, kSheet},
                 {1978.9, kSheet},
                 {450, kSheet},
                 {360, kDerived},
                 {50, kPaper},
                 {40, kPaper},
                 {700, kSheet}}}),
          make("gb200-nvl72", 72,
               {{{186, kSheet},
                 {8000, kSheet},
                 {2500, kSheet},
                 {5000, kSheet},
                 {900, "arXiv 2505.09343, section 2.3.2"},
                 {720, kDerived},
                 {50, kSheet},
                 {40, kDerived},
                 {1200, kSheet}}})};
}

}  // namespace

std::vector<std::string> hardware_names() {
  std::vector<std::string> names;
  for (const Hardware& h : presets()) names.push_back(h.name);
  return names;
}

Result<Hardware> find_hardware(std::string_view name) {
  std::string known;
  for (Hardware& h : presets()) {
    if (h.name == name) return std::move(h);
    known += (known.empty() ? "" : ", ") + h.name;
  }
  return invalid("unknown hardware \"" + std::string(name.substr(0, 100)) + "\"; known: " + known);
}

Status Hardware::set(std::string_view fact, double value) {
  std::string known;
  for (size_t i = 0; i < kFacts.size(); ++i) {
    if (fact != kFacts[i].name) {
      known += (known.empty() ? "" : ", ") + std::string(kFacts[i].name);
      continue;
    }
    if (!(value >= 1e-6) || !(value < 1e9)) {
      return invalid(std::string(fact) + " is " + figure_text(value) + "; accepted: 1e-6 or more, below 1e9");
    }
    this->*kFacts[i].member = value;
    facts[i].value = value;
    facts[i].source = "given";
    return {};
  }
  return invalid("unknown fact \"" + std::string(fact.substr(0, 100)) + "\" of hardware; known: " + known);
}

double latency_us(const LinkLatency& link, int num_switches) {
  return link.same_leaf_us + (link.cross_leaf_us - link.same_leaf_us) / 2 * (num_switches - 1);
}

}  // namespace fathom
