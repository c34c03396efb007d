const [report] = document.forms;
const log = document.querySelector("pre");
const post = { method: "POST", headers: { "content-type": "application/json" } };
const game = "/api/games/final";

const stream = new EventSource(`${game}/stream`);
for (const name of ["initial", "score"])
  stream.addEventListener(name, ({ data }) => {
    const { home_score, away_score, timestamp } = JSON.parse(data);
    document.getElementById("score").textContent = `${home_score} : ${away_score}`;
    log.append(`${name} ${home_score} : ${away_score} at ${timestamp}\n`);
  });

report.addEventListener("submit", async (event) => {
  event.preventDefault();
  const [home_score, away_score] = [report.home.valueAsNumber, report.away.valueAsNumber];
  const body = JSON.stringify({ home_score, away_score });
  const response = await fetch(`${game}/score`, { ...post, body });
  if (!response.ok) log.append(`${(await response.json()).detail}\n`);
});
