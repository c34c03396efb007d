/** Starts the page. */

import "../style/theme.css";
import "../style/page.css";
import "../style/tasks.css";
import "../style/people.css";
import { createClient } from "../client/client.ts";
import { createApp } from "./app.ts";
import { findPageElements, findPeopleElements } from "./elements.ts";
import { startPeople } from "./people.ts";

const client = createClient();
createApp(client, findPageElements()).start();
startPeople(client, findPeopleElements());
