const [broadcast] = document.forms;
const log = document.querySelector("pre");
const post = { method: "POST", headers: { "content-type": "application/json" } };

// The browser reconnects by itself, and then receives what it missed.
const events = new EventSource("/api/events");
for (const name of ["connected", "message", "update"])
  events.addEventListener(name, ({ data }) => log.append(`${name} ${data}\n`));

broadcast.addEventListener("submit", async (event) => {
  event.preventDefault();
  const data = Object.fromEntries(new FormData(broadcast));
  const response = await fetch("/api/broadcast", { ...post, body: JSON.stringify({ data }) });
  const answer = await response.json();
  log.append(response.ok ? `sent to ${answer.clients} clients\n` : `${answer.detail}\n`);
});
