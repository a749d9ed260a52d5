#include "plan/what_if.h"

#include <algorithm>
#include <functional>

namespace fathom {
namespace {

struct Preset {
  WhatIf what;
  std::function<Status(PlanCase&)> apply;
};

Status scale_nic(PlanCase& c) {
  constexpr double kNic800 = 100;
  if (c.hardware.nic_gbps >= kNic800) {
    return invalid("--what-if nic-800g: the NIC has " + figure_text(c.hardware.nic_gbps) + " GB/s already");
  }
  const double effective = c.hardware.nic_effective_gbps * kNic800 / c.hardware.nic_gbps;
  if (auto s = c.hardware.set("nic_gbps", kNic800); !s) return s;
  return c.hardware.set("nic_effective_gbps", effective);
}

// The links of NVL72 around the GPU at hand; a decode group of more GPUs becomes one of 72.
Status use_nvl72(PlanCase& c) {
  const auto nvl = find_hardware("gb200-nvl72");
  if (!nvl) return nvl.error();
  c.hardware.gpus_per_node = nvl->gpus_per_node;
  if (auto s = c.hardware.set("scale_up_gbps", nvl->scale_up_gbps); !s) return s;
  if (auto s = c.hardware.set("scale_up_effective_gbps", nvl->scale_up_effective_gbps); !s) return s;
  auto& serving = c.settings.serving;
  if (serving.gpus > nvl->gpus_per_node && c.model && c.model->n_routed_experts > 0) {
    serving.gpus = nvl->gpus_per_node;
    const int64_t over = c.model->n_routed_experts % serving.gpus;
    serving.redundant_experts = over == 0 ? 0 : serving.gpus - over;
  }
  return {};
}

template <class T, class V>
std::function<Status(PlanCase&)> set(T PlanSettings::*section, V T::*member, const V& value) {
  return [=](PlanCase& c) -> Status {
    c.settings.*section.*member = value;
    return {};
  };
}

std::function<Status(PlanCase&)> logfmt(double codec_overhead) {
  return [=](PlanCase& c) -> Status {
    c.settings.serving.combine = "logfmt10";
    c.settings.serving.codec_overhead = codec_overhead;
    return {};
  };
}

std::function<Status(PlanCase&)> pool(double gbps, double gb, bool shares_nic) {
  return [=](PlanCase& c) -> Status {
    auto& serving = c.settings.serving;
    serving.host_gbps = gbps;
    serving.host_gb = gb;
    serving.host_shares_nic = shares_nic;
    return {};
  };
}

const std::vector<Preset>& presets() {
  using Serving = PlanSettings::Serving;
  using Fabric = PlanSettings::FabricSettings;
  const auto text = [](std::string Serving::*member, const char* value) {
    return set(&PlanSettings::serving, member, std::string(value));
  };
  static const std::vector<Preset> all = {
      {{"nic-800g", "hardware.nic_gbps = 100, nic_effective_gbps in the same ratio as now",
        "one 800G port; effective / line rate as arXiv 2505.09343, section 4.3"},
       scale_nic},
      {{"nvl72",
        "72 GPUs reach each other at 900 GB/s (720 effective); a larger serving.gpus becomes 72, and "
        "serving.redundant_experts the fewest that then spread evenly",
        "arXiv 2505.09343, section 2.3.2"},
       use_nvl72},
      {{"roce-128", "fabric.radix = 128", "arXiv 2505.09343, section 5.2.2: RoCE switches have 128 ports"},
       set(&PlanSettings::fabric, &Fabric::radix, int64_t{128})},
      {{"planes-4", "fabric.planes = 4, a port of a NIC each",
        "the number of planes alone; figure 4 of arXiv 2505.09343 has NICs with a port in each of 4 planes (as many "
        "endpoints as one plane, a lost port costs a quarter): not modelled"},
       set(&PlanSettings::fabric, &Fabric::planes, int64_t{4})},
      {{"fp8-kv", "serving.kv = fp8", "FlashMLA: 512 E4M3, a scale per 128, 64 BF16"}, text(&Serving::kv, "fp8")},
      {{"fp4-weights", "serving.weights = fp4", "OCP MX 1.0: 4 bits and a shared 8-bit scale per 32"},
       text(&Serving::weights, "fp4")},
      {{"logfmt-combine", "serving.combine = logfmt10, serving.codec_overhead = 0.5: encoded by the GPU",
        "DeepEP: LogFMT-10 with two BF16 limits per 128; the least of the 50 to 100 % that fused encoding costs, arXiv "
        "2505.09343, section 3.2"},
       logfmt(0.5)},
      {{"logfmt-nic", "serving.combine = logfmt10, serving.codec_overhead = 0: encoded by the NIC",
        "arXiv 2505.09343, section 6.5: the same format, and the GPU does not wait for the encoding"},
       logfmt(0)},
      {{"in-network", "serving.in_network = true",
        "arXiv 2505.09343, section 6.5: multicast of dispatch, aggregation of combine; what a GPU receives (dispatch) "
        "and sends back (combine) stays, but for experts that share a GPU"},
       set(&PlanSettings::serving, &Serving::in_network, true)},
      {{"mtp", "serving.mtp_acceptance = 0.85", "V3 report, section 5.4.3: 85 to 90 % of second tokens"},
       set(&PlanSettings::serving, &Serving::mtp_acceptance, 0.85)},
      {{"host-kv", "serving.host_gbps = 63, host_gb = 256, shared with the NIC",
        "PCIe 5.0 x16, also of CXL 2.0: 32 GT/s * 16 * 128 / 130 / 8; 2 TB of a DGX H100 over 8 GPUs; KV and the NIC "
        "share PCIe, arXiv 2505.09343, section 4.5"},
       pool(63, 256, true)},
      {{"cpu-nvlink", "serving.host_gbps = 450, host_gb = 480, not shared",
        "NVLink-C2C of GH200, 900 GB/s in both directions together, and its LPDDR5X; the NIC stays on PCIe"},
       pool(450, 480, false)},
      {{"linear-hybrid", "serving.full_attention_every = 4",
        "three linear layers to one of softmax, as arXiv 2510.26692; arXiv 2505.09343, section 2.1.3; a state is read "
        "and written for every token, so that it takes long contexts to pay"},
       set(&PlanSettings::serving, &Serving::full_attention_every, int64_t{4})}};
  return all;
}  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks): functions of a static list live as long as the program

const Figure* find(const std::vector<FigureGroup>& groups, const std::string& group, const std::string& name) {
  for (const FigureGroup& g : groups) {
    if (g.title != group) continue;
    if (const Figure* found = find_figure(g.figures, name)) return found;
  }
  return nullptr;
}

}  // namespace

const std::vector<WhatIf>& what_ifs() {
  static const std::vector<WhatIf> all = [] {
    std::vector<WhatIf> list;
    for (const Preset& preset : presets()) list.push_back(preset.what);
    return list;
  }();
  return all;
}

Result<PlanCase> changed(std::string_view name, PlanCase plan_case) {
  std::string known;
  for (const Preset& preset : presets()) {
    known += (known.empty() ? "" : ", ") + std::string(preset.what.name);
    if (name != preset.what.name) continue;
    if (auto s = preset.apply(plan_case); !s) return s.error();
    return plan_case;
  }
  return invalid("--what-if \"" + std::string(name.substr(0, 100)) + "\" is unknown; known: " + known);
}

std::optional<double> ChangedFigure::ratio() const {
  if (!before || !after || before->value == 0) return {};
  return after->value / before->value;
}

std::vector<ChangedFigure> compare(const std::vector<FigureGroup>& before, const std::vector<FigureGroup>& after) {
  std::vector<ChangedFigure> out;
  for (const FigureGroup& group : after) {
    for (const Figure& figure : group.figures) {
      const Figure* old = find(before, group.title, figure.name);
      if (old == nullptr) {
        out.push_back({group.title, {}, figure});
      } else if (old->value != figure.value) {
        out.push_back({group.title, *old, figure});
      }
    }
  }
  for (const FigureGroup& group : before) {
    for (const Figure& figure : group.figures) {
      if (find(after, group.title, figure.name) == nullptr) out.push_back({group.title, figure, {}});
    }
  }
  return out;
}

Json to_json(const std::vector<ChangedFigure>& figures) {
  Json list = Json::array();
  for (const ChangedFigure& f : figures) {
    const Figure& shown = f.after ? *f.after : *f.before;
    Json item = Json::object();
    item.set("group", f.group).set("name", shown.name).set("unit", shown.unit);
    item.set("before", f.before ? Json(f.before->value) : Json());
    item.set("after", f.after ? Json(f.after->value) : Json());
    const auto ratio = f.ratio();
    item.set("ratio", ratio ? Json(*ratio) : Json()).set("formula", shown.formula).set("source", shown.source);
    list.push(std::move(item));
  }
  return list;
}

}  // namespace fathom
