// Fits the Universal Scalability Law to sets of points: a line of "N X N X ..." on standard input
// gives a line "contention crosstalk rate" or "refused".

#include "lab/harness/scaling.hh"

#include <iomanip>
#include <iostream>
#include <sstream>
#include <string>

using namespace schedlab;

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::vector<harness::ScalingPoint> points;
    for (harness::ScalingPoint point; words >> point.workers >> point.value;)
      points.push_back(point);
    const auto fit = harness::fit_usl(points);
    if (!fit)
      std::cout << "refused\n";
    else
      std::cout << std::setprecision(17) << fit->contention.value << ' ' << fit->crosstalk.value
                << ' ' << fit->rate.value << '\n';
  }
}
