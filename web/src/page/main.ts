/** Starts the page. */

import "../style/theme.css";
import "../style/page.css";
import "../style/tasks.css";
import "../style/people.css";
import { createApp } from "./app.ts";
import { findPageElements, findPeopleElements, findSessionElements } from "./elements.ts";
import { startPeople } from "./people.ts";
import { startSession } from "./session.ts";

const [page, people] = [findPageElements(), findPeopleElements()];
startSession(findSessionElements(), (visit) => {
  createApp(visit, page).start();
  startPeople(visit, people);
});
