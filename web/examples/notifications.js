const [listen, send] = document.forms;
const log = document.querySelector("pre");
const post = { method: "POST", headers: { "content-type": "application/json" } };
let stream;

listen.addEventListener("submit", (event) => {
  event.preventDefault();
  stream?.close();
  stream = new EventSource(`/api/notifications/subscribe/${listen.user.value}`);
  stream.onmessage = ({ data }) => log.append(`${data}\n`);
});

send.addEventListener("submit", async (event) => {
  event.preventDefault();
  const body = JSON.stringify(Object.fromEntries(new FormData(send)));
  const response = await fetch(`/api/users/${listen.user.value}/notifications`, { ...post, body });
  if (!response.ok) log.append(`${(await response.json()).detail}\n`);
});
