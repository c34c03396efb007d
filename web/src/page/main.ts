/** Starts the page. */

import "../style/theme.css";
import "../style/page.css";
import "../style/tasks.css";
import { createClient } from "../client/client.ts";
import { createApp } from "./app.ts";
import { findPageElements } from "./elements.ts";

createApp(createClient(), findPageElements()).start();
