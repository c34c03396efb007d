const line = document.querySelector("polyline");
const text = document.querySelector("pre");
const usage = [];

new EventSource("/api/metrics/stream").addEventListener("metrics", ({ data }) => {
  const { cpu_usage, memory, goroutines } = JSON.parse(data);
  usage.push(cpu_usage);
  if (usage.length > 61) usage.shift();
  line.setAttribute("points", usage.map((percent, at) => `${at},${100 - percent}`).join(" "));
  const megabytes = (memory.alloc / 1e6).toFixed(1);
  text.textContent = `CPU ${cpu_usage.toFixed(1)} %, memory ${megabytes} MB, ${goroutines} tasks`;
});
