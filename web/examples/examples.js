/** What the examples share: the way back, and the source of each on its own page. */

const link = Object.assign(document.createElement("a"), { href: "/examples" });
link.append("All examples");
const nav = document.createElement("nav");
nav.append(link);
document.body.prepend(nav);

const scripts = [...document.scripts].map(({ src }) => src);
for (const url of [location.href, ...scripts.filter((src) => src !== import.meta.url)]) {
  const response = await fetch(url);
  const heading = document.createElement("h2");
  heading.append(new URL(url).pathname.split("/").at(-1));
  const source = document.createElement("pre");
  source.append(await response.text());
  document.querySelector("main").append(heading, source);
}
